//: edit: code with a warning
//: live: a warning is shown, and is no refusal
//: swapped: py_area
//: flags: -O2 -Wall
//: ask: ext.area(3)
#include "ext.h"

static long area(long x)
{
//-    return x * 3;
//+    long unused;
//+    return x * 4;
}
METHOD(area)
MODULE(ENTRY(area))
