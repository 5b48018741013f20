//: edit: the initial value of a variable
//: nothing to do: the live value is kept, and that is said
//: note: initial value of `limit` changed: the live value is kept
//: run: ext.more(3)
//: kept: ext.look(0)
//: ask: 0
#include "ext.h"

//-static long limit = 5;
//+static long limit = 70;
static long more(long x)
{
    return limit += x;
}
static long look(long x)
{
    return limit + 0 * x;
}
METHOD(more)
METHOD(look)
MODULE(ENTRY(more), ENTRY(look))
