//: edit: a local variable with another name
//: nothing to do: no code differs
//: ask: ext.area(3)
#include "ext.h"

static long area(long x)
{
//-    long a = x * 3;
//-    return a + a * a;
//+    long area_of_x = x * 3;
//+    return area_of_x + area_of_x * area_of_x;
}
METHOD(area)
MODULE(ENTRY(area))
