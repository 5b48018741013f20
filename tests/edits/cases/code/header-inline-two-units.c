//: edit: an inline function of a header, used by two units
//: live: both units are compiled again, and both callers are swapped in one step
//: swapped: area edge
//: ask: [ext.area(n) for n in range(5)], [edge(n) for n in range(5)]
//@ shape.h
static inline long shape(long x)
{
//-    return x + 7;
//+    return x + 8;
}
//@ ext.c
#include "ext.h"
#include "shape.h"

long area(long x)
{
    return shape(x) * 2;
}
METHOD(area)
MODULE(ENTRY(area))
//@ edge.c
#include "shape.h"

long edge(long x)
{
    return shape(x) * 3;
}
