//: edit: two variables in one section trade places
//: refused variable-layout: they are known by their places in it
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(1)
#include "ext.h"

#define SHARED __attribute__((section("state")))
//-SHARED static long first = 1;
SHARED static long second = 2;
//+SHARED static long first = 1; //!
static long more(long x)
{
    first += x;
//-    return first * 100 + second;
//+    return first * 1000 + second;
}
METHOD(more)
MODULE(ENTRY(more))
