//: edit: a static variable becomes thread-local
//: refused thread-local-changed: threads that run have no storage for it, and its value is in one place
//: run: ext.count(5)
//: kept: ext.count(0)
//: ask: ext.count(1)
#include "ext.h"

//-static long mine = 1;
//+static __thread long mine = 1; //!
static long count(long x)
{
    return mine += x;
}
METHOD(count)
MODULE(ENTRY(count))
