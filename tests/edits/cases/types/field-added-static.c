//: edit: a field at the end of a struct that a static variable has
//: refused type-layout, variable-size: the live variable has no room for it
//: run: ext.move(3)
//: kept: ext.move(0)
//: ask: ext.move(1)
#include "ext.h"

struct point { //!
    long x, y;
//+    long z;
};
static struct point here;
static long move(long by)
{
    here.x += by;
//-    return here.x * 100 + here.y;
//+    return here.x * 100 + here.y + here.z;
}
METHOD(move)
MODULE(ENTRY(move))
