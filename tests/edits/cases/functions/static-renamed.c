//: edit: a static function with another name and the same body
//: live: it is a new function, and who calls it is swapped
//: swapped: area
//: ask: ext.area(3)
#include "ext.h"

//-static __attribute__((noinline)) long scaled(long x)
//+static __attribute__((noinline)) long enlarged(long x)
{
    return x * 10;
}
long area(long x)
{
//-    return scaled(x) + 1;
//+    return enlarged(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
