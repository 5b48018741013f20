//: edit: a function moves to another unit, and changes there
//: live: it has one name, and so one entry
//: swapped: scaled area
//: ask: ext.area(3), scaled(4)
//@ ext.c
#include "ext.h"

long scaled(long x);
//-long scaled(long x)
//-{
//-    return x * 10;
//-}
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
//@ other.c
//+long scaled(long x)
//+{
//+    return x * 20;
//+}
long other(long x)
{
    return x;
}
