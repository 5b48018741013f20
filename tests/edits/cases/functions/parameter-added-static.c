//: edit: a parameter more for a static function, all its callers changed
//: live: it is a new function for new callers; the old one is left alone
//: swapped: area edge
//: ask: ext.area(3), ext.edge(3)
#include "ext.h"

//-static __attribute__((noinline)) long scaled(long x)
//+static __attribute__((noinline)) long scaled(long x, long by)
{
//-    return x * 10;
//+    return x * by;
}
long area(long x)
{
//-    return scaled(x) + 1;
//+    return scaled(x, 20) + 1;
}
long edge(long x)
{
//-    return scaled(x) + 2;
//+    return scaled(x, 30) + 2;
}
METHOD(area)
METHOD(edge)
MODULE(ENTRY(area), ENTRY(edge))
