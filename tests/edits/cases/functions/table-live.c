//: edit: a table of functions that is not const
//: nothing to do: the live table is kept, and that is said
//: note: initial value of `handlers` changed: the live value is kept
//: kept: ext.call(2)
//: ask: ext.choose(0), ext.call(2) * 0
#include "ext.h"

typedef long (*handler)(long);
static long twice(long x) { return 2 * x; }
static long thrice(long x) { return 3 * x; }
//-static handler handlers[2] = {twice, thrice};
//+static handler handlers[2] = {thrice, twice};
static long choose(long x)
{
    handlers[0] = handlers[x & 1];
    return x;
}
static long call(long x)
{
    return handlers[0](x + 1);
}
METHOD(choose)
METHOD(call)
MODULE(ENTRY(choose), ENTRY(call))
