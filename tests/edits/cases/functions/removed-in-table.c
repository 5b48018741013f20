//: edit: a function is removed that a live table points to
//: refused removed-referenced: the live table would go on calling the old code
//: run: ext.call(0)
//: ask: ext.call(0), ext.call(1)
#include "ext.h"

typedef long (*handler)(long);
static long twice(long x)
{
    return 2 * x;
}
//-static long thrice(long x)
//-{
//-    return 3 * x;
//-}
//-static handler handlers[2] = {twice, thrice};
//+static handler handlers[2] = {twice, twice};
static long call(long x)
{
    handlers[0] = handlers[x & 1];
    return handlers[0](x + 1);
}
METHOD(call)
MODULE(ENTRY(call))
