//: edit: a new thread-local variable
//: refused thread-local-added: threads that run have no storage for it
//: run: ext.count(5)
//: ask: ext.count(1)
#include "ext.h"

//+static __thread long mine; //!
static long count(long x)
{
//-    return x;
//+    return mine += x;
}
METHOD(count)
MODULE(ENTRY(count))
