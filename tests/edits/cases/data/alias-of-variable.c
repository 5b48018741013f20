//: edit: a variable gets a second name
//: refused variable-layout: what is in its section is how it is known
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(2)
#include "ext.h"

long level = 5; //!
//+extern long height __attribute__((alias("level")));
static long more(long x)
{
//-    return level += x;
//+    return (height += x) * 2;
}
METHOD(more)
MODULE(ENTRY(more))
