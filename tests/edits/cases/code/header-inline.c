//: edit: an inline function of a header, used by one unit
//: live: the unit is compiled again and its caller swapped
//: swapped: area
//: ask: [ext.area(n) for n in range(5)]
//@ shape.h
static inline long shape(long x)
{
//-    return x + 7;
//+    return x + 8;
}
//@ ext.c
#include "ext.h"
#include "shape.h"

long area(long x)
{
    return shape(x) * 2;
}
METHOD(area)
MODULE(ENTRY(area))
