//: edit: a static function that was inlined into its callers
//: live: every caller that has a copy is swapped
//: swapped: area edge
//: ask: [ext.area(n) for n in range(5)], [ext.edge(n) for n in range(5)], ext.other(2)
#include "ext.h"

static inline long scaled(long x)
{
//-    return x * 10;
//+    return x * 11;
}
long area(long x)
{
    return scaled(x) * x;
}
long edge(long x)
{
    return scaled(x) + 1;
}
long other(long x)
{
    return x + 10;
}
METHOD(area)
METHOD(edge)
METHOD(other)
MODULE(ENTRY(area), ENTRY(edge), ENTRY(other))
