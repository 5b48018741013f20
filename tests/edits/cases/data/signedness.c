//: edit: a signed variable becomes unsigned
//: live: the bits that are there are those that C would convert them to
//: run: ext.more(-5)
//: ask: ext.more(2), ext.more(0)
#include "ext.h"

//-static long level;
//+static unsigned long level;
static long more(long x)
{
    level += x;
    return level / 2;
}
METHOD(more)
MODULE(ENTRY(more))
