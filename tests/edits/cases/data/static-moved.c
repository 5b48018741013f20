//: edit: a static variable moves from one function to another
//: live: it is another variable and begins anew; the old one is kept for a rollback
//: swapped: first second
//: note: `second::n` is new and begins anew: the value of `first::n` stays
//: run: ext.first(5)
//: ask: ext.first(1), ext.second(1), ext.second(1)
#include "ext.h"

long first(long x)
{
//-    static long n = 10;
//-    return n += x;
//+    return 10 + x;
}
long second(long x)
{
//-    return 20 + x;
//+    static long n = 10;
//+    return n += x;
}
METHOD(first)
METHOD(second)
MODULE(ENTRY(first), ENTRY(second))
