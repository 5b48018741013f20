//: edit: two virtual methods of a C++ class trade places
//: refused type-layout: objects that live have the old table of methods
//: run: ext.make(3)
//: kept: ext.area(0)
//: ask: ext.area(1)
#include "ext.h"

struct Shape { //!
    long size;
    explicit Shape(long s) : size(s) {}
//-    virtual long edge() const { return size; }
    virtual long area(long x) const { return size * size + x; }
//+    virtual long edge() const { return size; }
};
static Shape *last;
static long make(long x)
{
    last = new Shape(x);
    return x;
}
static long area(long x)
{
    return last ? last->area(x) + last->edge() : -1;
}
METHOD(make)
METHOD(area)
MODULE(ENTRY(make), ENTRY(area))
