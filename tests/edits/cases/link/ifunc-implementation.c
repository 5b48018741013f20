//: edit: a function that a resolver has chosen
//: live: it has an entry as any other
//: swapped: fast
//: ask: ext.area(3)
#include "ext.h"

static long fast(long x)
{
//-    return x * 3;
//+    return x * 4;
}
static long (*choose(void))(long)
{
    return fast;
}
long area(long x) __attribute__((ifunc("choose")));
METHOD(area)
MODULE(ENTRY(area))
