//: edit: a function of long double
//: live: its constants are compared by content, the result comes by the x87 stack
//: swapped: wide
//: ask: [ext.cube(n) for n in range(5)]
#include "ext.h"

long double wide(long double x, long double y)
{
//-    return x * y + 1.25L;
//+    return x * y * y + 2.5L;
}
static long cube(long x)
{
    return (long)(wide(x, 1.5L) * 1000);
}
METHOD(cube)
MODULE(ENTRY(cube))
