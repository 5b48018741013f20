//: edit: a char becomes a _Bool
//: refused variable-type: the value that is there need not be 0 or 1
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(2)
#include "ext.h"

//-static char level = 1;
//+static _Bool level = 1; //!
static long more(long x)
{
    level += x;
    return level;
}
METHOD(more)
MODULE(ENTRY(more))
