//: edit: a function that uses a global, a static and a function's static
//: live: the three keep their addresses and their values
//: swapped: count
//: run: [ext.count(n) for n in range(5)]
//: kept: where(0), where(1), where(2)
//: kept: ext.look(0)
//: ask: ext.look(0)
#include "ext.h"

long total = 1;
static long product = 2;
static long *counter;
long count(long x)
{
    static long calls = 3;
    counter = &calls;
    calls++, total += x, product *= 2;
//-    return calls;
//+    return calls + total + product;
}
static long look(long x)
{
    return counter ? *counter * 10000 + total * 100 + product : x;
}
long where(long which)
{
    return which == 0 ? (long)&total : which == 1 ? (long)&product : (long)counter;
}
METHOD(count)
METHOD(look)
MODULE(ENTRY(count), ENTRY(look))
