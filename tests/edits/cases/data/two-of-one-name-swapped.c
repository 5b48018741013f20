//: edit: two static variables of one name in one function trade places
//: refused static-ambiguous: nothing tells which is which of the live ones
//: run: ext.count(1), ext.count(200)
//: ask: ext.count(0), ext.count(200)
#include "ext.h"

long count(long x) //!
{
    if (x > 100) {
//-        static long n = 5;
//+        static long n = 20;
        return n += x;
    } else {
//-        static long n = 20;
//+        static long n = 5;
        return n -= x;
    }
}
METHOD(count)
MODULE(ENTRY(count))
