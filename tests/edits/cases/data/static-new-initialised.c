//: edit: a new static variable that starts at 50
//: live: it comes with the new code, initialised once
//: swapped: count
//: ask: [ext.count(n) for n in range(4)]
#include "ext.h"

//+static long seen = 50;
long count(long x)
{
//-    return x;
//+    seen += x;
//+    return seen * 100 + x;
}
METHOD(count)
MODULE(ENTRY(count))
