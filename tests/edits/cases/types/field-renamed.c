//: edit: a field of a live struct with another name
//: nothing to do: same type, same place
//: run: ext.move(3)
//: kept: ext.move(0)
//: ask: ext.move(1)
#include "ext.h"

struct point {
//-    long x;
//+    long east;
    long y;
};
static struct point here;
static long move(long by)
{
//-    here.x += by;
//-    return here.x * 100 + here.y;
//+    here.east += by;
//+    return here.east * 100 + here.y;
}
METHOD(move)
MODULE(ENTRY(move))
