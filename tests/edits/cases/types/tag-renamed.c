//: edit: a struct that a live variable has gets another name
//: nothing to do: its fields are where they were
//: run: ext.move(3)
//: kept: ext.move(0)
//: ask: ext.move(1)
#include "ext.h"

//-struct point { long x, y; };
//-static struct point here;
//+struct position { long x, y; };
//+static struct position here;
static long move(long by)
{
    here.x += by;
    return here.x * 100 + here.y;
}
METHOD(move)
MODULE(ENTRY(move))
