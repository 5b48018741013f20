//: edit: a variable of another type and the same size
//: refused variable-type: the bits of a long are no double
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(2)
#include "ext.h"

//-static long level = 1;
//+static double level = 1; //!
static long more(long x)
{
    level += x;
    return level;
}
METHOD(more)
MODULE(ENTRY(more))
