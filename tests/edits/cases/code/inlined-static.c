//: edit: a function with a static variable, inlined into its callers
//: live: the callers are swapped and the variable is still the one of the function
//: swapped: twice once
//: run: [ext.once(1), ext.twice(1)]
//: kept: ext.calls(0)
//: ask: ext.once(3), ext.twice(3), ext.calls(0)
#include "ext.h"

static long *last;
static inline long next(long x)
{
    static long n;
    last = &n;
    n += 1;
//-    return x * 1000 + n;
//+    return x * 2000 + n;
}
long once(long x)
{
    return next(x);
}
long twice(long x)
{
    return next(x) + next(x + 1);
}
static long calls(long x)
{
    return last ? *last : x;
}
METHOD(once)
METHOD(twice)
METHOD(calls)
MODULE(ENTRY(once), ENTRY(twice), ENTRY(calls))
