//: edit: the initial value of a function's static, and its code
//: live: the code is new, the live value is kept, and that is said
//: note: initial value of `count::calls` changed: the live value is kept
//: run: ext.count(3)
//: kept: ext.look(0)
//: ask: ext.count(0) % 2
#include "ext.h"

static long *counter;
long count(long x)
{
//-    static long calls = 100;
//+    static long calls = 200;
    counter = &calls;
    calls += x;
//-    return calls * 2;
//+    return calls * 2 + 1;
}
static long look(long x)
{
    return counter ? *counter : x;
}
METHOD(count)
METHOD(look)
MODULE(ENTRY(count), ENTRY(look))
