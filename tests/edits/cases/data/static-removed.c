//: edit: a static variable of a function is removed
//: live: new code does without; the old one is kept for a rollback
//: swapped: count
//: run: ext.count(5)
//: kept: var("total")
//: ask: ext.count(1)
#include "ext.h"

long total;
long count(long x)
{
//-    static long calls;
//-    return ++calls * 1000 + (total += x);
//+    return total += x;
}
METHOD(count)
MODULE(ENTRY(count))
