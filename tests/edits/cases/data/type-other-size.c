//: edit: an int variable becomes a long
//: refused variable-size: the live one has four bytes, and what lies behind it is another's
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(2)
#include "ext.h"

//-static int level = 1;
//+static long level = 1; //!
static long more(long x)
{
    level += x;
    return level;
}
METHOD(more)
MODULE(ENTRY(more))
