//: edit: a static variable becomes global
//: live: it is the same variable
//: run: ext.more(5)
//: kept: ext.more(0)
//: ask: ext.more(1)
#include "ext.h"

//-static long level = 3;
//+long level = 3;
static long more(long x)
{
//-    return level += x;
//+    level += x;
//+    return level + 0;
}
METHOD(more)
MODULE(ENTRY(more))
