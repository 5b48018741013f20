//: edit: a static function becomes global
//: live: its entry is the old one; its caller calls it another way
//: ask: ext.area(3)
#include "ext.h"

//-static __attribute__((noinline)) long scaled(long x)
//+long scaled(long x)
{
//-    return x * 10;
//+    return x * 20;
}
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
