//: edit: a static variable with another name
//: live: it is another variable and begins anew; the old one is kept for a rollback
//: swapped: py_more
//: note: `total` is new and begins anew: the value of `count` stays where no new code reads it
//: run: ext.more(0)
//: ask: ext.more(3), ext.more(4)
#include "ext.h"

//-static long count;
//+static long total;
static long more(long x)
{
//-    return count += x;
//+    return total += x;
}
METHOD(more)
MODULE(ENTRY(more))
