//: edit: a const table of functions
//: live: who reads it is swapped, and its functions are the live ones
//: swapped: py_call
//: ask: [ext.call(n) for n in range(4)]
#include "ext.h"

typedef long (*handler)(long);
static long twice(long x) { return 2 * x; }
static long thrice(long x) { return 3 * x; }
//-static const handler handlers[4] = {twice, thrice, twice, thrice};
//+static const handler handlers[4] = {thrice, twice, thrice, thrice};
static long call(long x)
{
    return handlers[x & 3](x + 1);
}
METHOD(call)
MODULE(ENTRY(call))
