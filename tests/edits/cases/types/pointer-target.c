//: edit: a live pointer to a struct becomes one to another struct
//: refused variable-type: it points to an object of the old kind
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct point { long x, y; };
struct circle { double radius; long x; };
static struct point origin = {1, 2};
//-static struct point *last;
//+static struct circle *last; //!
static long make(long x)
{
//-    last = &origin;
//+    last = (struct circle *)&origin;
    return last->x += x;
}
static long look(long x)
{
    return last ? last->x + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
