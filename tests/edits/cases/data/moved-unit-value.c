//: edit: a global variable is defined in another unit, with another initial value
//: live: the live value is kept, and that is said
//: note: initial value of `level` changed: the live value is kept
//: run: ext.more(3)
//: kept: var("level")
//: ask: ext.more(2) * 0
//@ ext.c
#include "ext.h"

//-long level = 5;
//+extern long level;
static long more(long x)
{
//-    return level += x;
//+    return level += 2 * x;
}
METHOD(more)
MODULE(ENTRY(more))
//@ other.c
//+long level = 6;
long look(long x)
{
    return 2 * x;
}
