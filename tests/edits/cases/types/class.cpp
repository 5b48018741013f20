//: edit: a member more in a C++ class, of which a static object is alive behind a pointer
//: refused type-layout: objects that live have no room for it
//: run: ext.make(3)
//: kept: ext.area(0)
//: ask: ext.area(1)
#include "ext.h"

class Shape { //!
//+    long edges = 4;
    long size;
public:
    explicit Shape(long s) : size(s) {}
    long area(long x) const { return size * size + x; }
};
static Shape *last;
static long make(long x)
{
    last = new Shape(x);
    return x;
}
static long area(long x)
{
    return last ? last->area(x) : -1;
}
METHOD(make)
METHOD(area)
MODULE(ENTRY(make), ENTRY(area))
