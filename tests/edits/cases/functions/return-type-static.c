//: edit: another return type of a static function, its caller changed
//: live: it is a new function for its new caller
//: swapped: area
//: ask: ext.area(3)
#include "ext.h"

//-static __attribute__((noinline)) long half(long x)
//+static __attribute__((noinline)) double half(long x)
{
//-    return x / 2;
//+    return x / 2.0;
}
long area(long x)
{
//-    return half(x) * 10;
//+    return (long)(half(x) * 10);
}
METHOD(area)
MODULE(ENTRY(area))
