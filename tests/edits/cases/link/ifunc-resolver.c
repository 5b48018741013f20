//: edit: the resolver of an indirect function
//: refused ifunc: it was run when the library was loaded, and its choice stands in tables
//: ask: ext.area(3)
#include "ext.h"

static long fast(long x) { return x * 3; }
static long slow(long x) { return x * 3 + 100; }
static long (*choose(void))(long) //!
{
//-    return getenv("NEVER") ? slow : fast;
//+    return getenv("NEVER") ? fast : slow;
}
long area(long x) __attribute__((ifunc("choose")));
METHOD(area)
MODULE(ENTRY(area))
