//: edit: a function's static variable of another type
//: refused variable-type: the bits of a long are no double
//: run: ext.more(3)
//: kept: ext.more(0)
//: ask: ext.more(2)
#include "ext.h"

static long more(long x)
{
//-    static long level = 1;
//+    static double level = 1; //!
    level += x;
    return (long)level;
}
METHOD(more)
MODULE(ENTRY(more))
