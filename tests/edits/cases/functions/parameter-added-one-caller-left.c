//: edit: a parameter more, and a unit that still calls it the old way
//: refused prototype-changed: the unchanged caller passes one argument
//: ask: ext.area(3)
//@ ext.c
#include "ext.h"

__attribute__((visibility("hidden"))) long scaled(long x);
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
//@ scaled.c
//-__attribute__((visibility("hidden"))) long scaled(long x)
//+__attribute__((visibility("hidden"))) long scaled(long x, long by) //!
{
//-    return x * 10;
//+    return x * by;
}
