//: edit: forward declarations
//: nothing to do: no code differs
//: ask: ext.area(3)
#include "ext.h"

//+static long scaled(long x);
//+struct later;
//+long never_defined(struct later *one);
static long scaled(long x)
{
    return x * 10;
}
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
