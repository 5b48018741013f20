//: edit: a variable's type is called by a typedef
//: nothing to do: it is the same type
//: run: ext.more(5)
//: kept: ext.more(0)
//: ask: ext.more(1)
#include "ext.h"

//+typedef long tally;
//-static long level = 3;
//+static tally level = 3;
static long more(long x)
{
    return level += x;
}
METHOD(more)
MODULE(ENTRY(more))
