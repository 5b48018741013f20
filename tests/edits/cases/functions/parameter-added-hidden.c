//: edit: a parameter more for a function that other libraries cannot see, all its callers changed
//: live: it is a new function for new callers; the old one is left alone
//: ask: ext.area(3)
//@ ext.c
#include "ext.h"

//-__attribute__((visibility("hidden"))) long scaled(long x);
//+__attribute__((visibility("hidden"))) long scaled(long x, long by);
long area(long x)
{
//-    return scaled(x) + 1;
//+    return scaled(x, 20) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
//@ scaled.c
//-__attribute__((visibility("hidden"))) long scaled(long x)
//+__attribute__((visibility("hidden"))) long scaled(long x, long by)
{
//-    return x * 10;
//+    return x * by;
}
