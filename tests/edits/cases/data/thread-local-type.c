//: edit: a thread-local variable of another type
//: refused variable-type: each thread that runs has the old one
//: run: ext.count(5)
//: kept: ext.count(0)
//: ask: ext.count(1)
#include "ext.h"

//-static __thread long mine = 1;
//+static __thread double mine = 1; //!
static long count(long x)
{
    return (long)(mine += x);
}
METHOD(count)
MODULE(ENTRY(count))
