//: edit: a signed variable becomes unsigned
//: refused variable-type: a negative value that is there would mean something else
//: run: ext.more(-5)
//: kept: ext.more(0)
//: ask: ext.more(2)
#include "ext.h"

//-static long level;
//+static unsigned long level; //!
static long more(long x)
{
    level += x;
    return level / 2;
}
METHOD(more)
MODULE(ENTRY(more))
