//: edit: a variable that holds more
//: refused variable-size: the live one keeps its size, and what lies behind it is another's
//: run: ext.count(2)
//: kept: var("total")
//: ask: ext.count(3)
#include "ext.h"

long total;
//-static long seen[4];
//+static long seen[8]; //!

static long count(long x)
{
    total += x;
    return ++seen[x & 3] * 100 + total;
}
METHOD(count)
MODULE(ENTRY(count))
