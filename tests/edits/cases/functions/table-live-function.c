//: edit: a function that a live table points to
//: live: pointers have the entry, and the entry leads to new code
//: swapped: twice
//: run: ext.choose(0)
//: kept: ext.is_twice(0)
//: ask: ext.call(2), ext.call(7)
#include "ext.h"

typedef long (*handler)(long);
//-static long twice(long x) { return 2 * x; }
//+static long twice(long x) { return 2 * x + 100; }
static handler handlers[2];
static long choose(long x)
{
    handlers[x & 1] = twice;
    return x;
}
static long call(long x)
{
    return handlers[0](x + 1);
}
static long is_twice(long x)
{
    return handlers[x & 1] == twice;
}
METHOD(choose)
METHOD(call)
METHOD(is_twice)
MODULE(ENTRY(choose), ENTRY(call), ENTRY(is_twice))
