//: edit: a thread-local variable becomes one for all threads
//: refused thread-local-changed: each thread has a value, and which is to be the one is not known
//: run: ext.count(5)
//: kept: ext.count(0)
//: ask: ext.count(1)
#include "ext.h"

//-static __thread long mine = 1;
//+static long mine = 1; //!
static long count(long x)
{
    return mine += x;
}
METHOD(count)
MODULE(ENTRY(count))
