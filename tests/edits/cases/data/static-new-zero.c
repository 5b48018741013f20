//: edit: a new static variable that starts at zero
//: live: it comes with the new code and counts from zero
//: swapped: py_count
//: ask: [ext.count(n) for n in range(4)]
#include "ext.h"

//+static long seen;
static long count(long x)
{
//-    return x;
//+    seen += x;
//+    return seen * 100 + x;
}
METHOD(count)
MODULE(ENTRY(count))
