//: edit: a constant
//: live: its function is swapped
//: swapped: area
//: run: ext.area(2)
//: ask: ext.area(3), area(5)
#include "ext.h"

long area(long x)
{
//-    return x * 3;
//+    return x * 4;
}
METHOD(area)
MODULE(ENTRY(area))
