//: edit: a thread-local variable is not used any more
//: live: each thread keeps its own for a rollback
//: swapped: py_count
//: run: ext.count(5)
//: ask: ext.count(1)
#include "ext.h"

//-static __thread long mine = 1;
static long count(long x)
{
//-    return mine += x;
//+    return x * 2;
}
METHOD(count)
MODULE(ENTRY(count))
