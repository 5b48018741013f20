//: edit: volatile added to a variable
//: live: same bytes, same place: only how it is read differs
//: run: ext.more(3)
//: kept: var("level")
//: ask: ext.more(2)
#include "ext.h"

//-long level;
//+volatile long level;
static long more(long x)
{
    level += x;
    level += x;
    return level;
}
METHOD(more)
MODULE(ENTRY(more))
