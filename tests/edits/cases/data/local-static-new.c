//: edit: a new static variable in a function that has one already
//: live: the old one keeps its value, the new one begins
//: swapped: count
//: run: ext.count(1), ext.count(1)
//: kept: var("total")
//: ask: ext.count(3), ext.count(200), ext.count(200)
#include "ext.h"

long total;
long count(long x)
{
//+    static long fresh = 7;
    static long calls;
    calls++;
    total += x;
//-    return calls * 1000 + total;
//+    return calls * 1000 + total + (x > 100 ? fresh++ : 0);
}
METHOD(count)
MODULE(ENTRY(count))
