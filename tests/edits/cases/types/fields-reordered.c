//: edit: fields of a live struct in another order
//: refused type-layout: sizes are equal, and yet each would be read as the other
//: run: ext.move(3)
//: kept: ext.move(0)
//: ask: ext.move(1)
#include "ext.h"

struct point { //!
//-    long x;
    long y;
//+    long x;
};
static struct point here;
static long move(long by)
{
    here.x += by;
    return here.x * 100 + here.y;
}
METHOD(move)
MODULE(ENTRY(move))
