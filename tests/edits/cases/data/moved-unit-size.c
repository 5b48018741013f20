//: edit: a global variable is defined in another unit, as one that is longer
//: refused variable-size: the live one has no room
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(2)
//@ ext.c
#include "ext.h"

//-long level[2] = {5};
//+extern long level[4];
static long more(long x)
{
//-    return level[0] += x;
//+    return level[0] += 2 * x;
}
METHOD(more)
MODULE(ENTRY(more))
//@ other.c
//+long level[4] = {5}; //!
long look(long x)
{
    return 2 * x;
}
