//: edit: two functions with a static variable of one name
//: live: each keeps its own, though their numbers in the object shift
//: run: ext.first(5), ext.second(7)
//: kept: look(0), look(1)
//: ask: ext.first(0), ext.second(0)
#include "ext.h"

static long *seen[2];
//+long zeroth(long x)
//+{
//+    static long n = 90;
//+    return n += x;
//+}
long first(long x)
{
    static long n = 10;
    seen[0] = &n;
//-    return n += x;
//+    return (n += x) + zeroth(0);
}
long second(long x)
{
    static long n = 20;
    seen[1] = &n;
    return n += x;
}
long look(long which)
{
    return seen[which] ? *seen[which] : -1;
}
METHOD(first)
METHOD(second)
MODULE(ENTRY(first), ENTRY(second))
