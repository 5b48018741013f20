//: edit: a constant at -O0
//: live: its function is swapped, and not what calls it
//: swapped: area
//: flags: -O0
//: run: ext.area(2)
//: ask: ext.area(3)
#include "ext.h"

static long area(long x)
{
//-    return x * 3;
//+    return x * 4;
}
METHOD(area)
MODULE(ENTRY(area))
