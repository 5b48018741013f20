//: edit: a static function of a name that another unit has too
//: live: only the one of the edited unit is swapped
//: ask: ext.area(3), edge(3)
//@ ext.c
#include "ext.h"

static __attribute__((noinline)) long scaled(long x)
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
//@ edge.c
static __attribute__((noinline)) long scaled(long x)
{
    return x * 30;
}
long edge(long x)
{
    return scaled(x) + 2;
}
