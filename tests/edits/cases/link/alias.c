//: edit: a function that has a second name
//: live: both names are one entry
//: ask: ext.area(3), surface(5)
#include "ext.h"

long area(long x)
{
//-    return x * 3;
//+    return x * 4;
}
long surface(long x) __attribute__((alias("area")));
METHOD(area)
MODULE(ENTRY(area))
