//: edit: a static variable of a name that the function has already
//: refused static-ambiguous: nothing tells which of the two is the live one
//: run: ext.count(1)
//: kept: ext.count(0)
//: ask: ext.count(0)
#include "ext.h"

long count(long x) //!
{
//+    if (x > 100) {
//+        static long n = 5;
//+        return n += x;
//+    }
    static long n = 20;
    return n -= x;
}
METHOD(count)
MODULE(ENTRY(count))
