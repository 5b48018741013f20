//: edit: a global variable is defined in another unit
//: live: it is the same variable, with its value
//: run: ext.more(3)
//: kept: var("level")
//: ask: ext.more(2), look(1)
//@ ext.c
#include "ext.h"

//-long level = 5;
//+extern long level;
static long more(long x)
{
//-    return level += x;
//+    return (level += x) + 0 * x;
}
METHOD(more)
MODULE(ENTRY(more))
//@ other.c
//-extern long level;
//+long level = 5;
long look(long x)
{
//-    return level + x;
//+    return level - x;
}
