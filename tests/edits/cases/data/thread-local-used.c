//: edit: a function that uses a thread-local variable
//: live: new code finds each thread's own
//: swapped: py_count
//: run: ext.count(5)
//: kept: ext.look(0)
//: ask: ext.look(0)
#include "ext.h"

static __thread long mine = 3;
static long count(long x)
{
//-    return mine += x;
//+    return (mine += x) * 2;
}
static long look(long x)
{
    return mine + 0 * x;
}
METHOD(count)
METHOD(look)
MODULE(ENTRY(count), ENTRY(look))
