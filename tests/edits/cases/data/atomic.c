//: edit: a variable becomes atomic
//: live: same bytes, same place
//: run: ext.more(3)
//: kept: var("level")
//: ask: ext.more(2)
#include "ext.h"

//-long level;
//+_Atomic long level;
static long more(long x)
{
    level += x;
    return level;
}
METHOD(more)
MODULE(ENTRY(more))
