//: edit: a function is removed that another unit still calls
//: refused removed-referenced: it would work until the next start, which would not
//: ask: ext.area(3)
//@ ext.c
#include "ext.h"

long scaled(long x);
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
//@ scaled.c
//-long scaled(long x)
//-{
//-    return x * 10;
//-}
//+extern long nothing;
