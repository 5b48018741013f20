//: edit: a second name now belongs to another function
//: refused alias-moved: its entry is the first function's, which has callers of its own
//: ask: ext.area(3), surface(5), edge(6)
#include "ext.h"

long area(long x)
{
    return x * 3;
}
long edge(long x) //!
{
    return x * 4;
}
//-long surface(long x) __attribute__((alias("area")));
//+long surface(long x) __attribute__((alias("edge")));
METHOD(area)
MODULE(ENTRY(area))
