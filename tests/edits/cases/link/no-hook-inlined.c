//: edit: a function that is inlined into one without a hook
//: refused no-hook: half of its callers would stay with the old copy
//: ask: ext.area(3), ext.edge(3)
#include "ext.h"

static inline long scaled(long x)
{
//-    return x * 10;
//+    return x * 20;
}
__attribute__((patchable_function_entry(0, 0))) long area(long x) //!
{
    return scaled(x) + 1;
}
long edge(long x)
{
    return scaled(x) + 2;
}
METHOD(area)
METHOD(edge)
MODULE(ENTRY(area), ENTRY(edge))
