//: edit: a field of a live struct with another type of the same size
//: refused type-layout: the bits of a long are no double
//: run: ext.move(3)
//: kept: ext.move(0)
//: ask: ext.move(1)
#include "ext.h"

struct point { //!
//-    long x;
//+    double x;
    long y;
};
static struct point here;
static long move(long by)
{
    here.x += by;
    return (long)here.x * 100 + here.y;
}
METHOD(move)
MODULE(ENTRY(move))
