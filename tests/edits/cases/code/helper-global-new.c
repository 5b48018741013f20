//: edit: a new global function, called by two old ones
//: live: it comes with the new code, once
//: swapped: area edge
//: ask: [ext.area(n) for n in range(5)], [ext.edge(n) for n in range(5)]
#include "ext.h"

//+long square(long x)
//+{
//+    return x * x;
//+}
long area(long x)
{
//-    return x * 3;
//+    return square(x) * 3;
}
long edge(long x)
{
//-    return x * 4;
//+    return square(x) + 4;
}
METHOD(area)
METHOD(edge)
MODULE(ENTRY(area), ENTRY(edge))
