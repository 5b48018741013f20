//: edit: a field of a live struct is removed
//: refused type-layout, variable-size: what lies behind it would be read from the wrong place
//: run: ext.move(3)
//: kept: ext.move(0)
//: ask: ext.move(1)
#include "ext.h"

//-struct point { long id, x, y; };
//+struct point { long x, y; }; //!
static struct point here = {7, 8};
static long move(long by)
{
    here.x += by;
    return here.x * 100 + here.y;
}
METHOD(move)
MODULE(ENTRY(move))
