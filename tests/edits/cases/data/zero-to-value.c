//: edit: a variable without an initial value gets one
//: nothing to do: it would move from .bss to .data, but it is live and stays where it is
//: note: initial value of `limit` changed
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: 0
#include "ext.h"

//-static long limit;
//+static long limit = 70;
static long more(long x)
{
    return limit += x;
}
METHOD(more)
MODULE(ENTRY(more))
