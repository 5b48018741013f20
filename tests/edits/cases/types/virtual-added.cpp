//: edit: a virtual method in front of the others of a C++ class
//: refused type-layout: objects that live have the old table of methods
//: run: ext.make(3)
//: kept: ext.area(0)
//: ask: ext.area(1)
#include "ext.h"

struct Shape { //!
//+    virtual long edge() const { return 4; }
    virtual long area(long x) const { return x + 100; }
    virtual ~Shape() {}
};
struct Square : Shape {
    long size;
    explicit Square(long s) : size(s) {}
    long area(long x) const override { return size * size + x; }
};
static Shape *last;
static long make(long x)
{
    last = new Square(x);
    return x;
}
static long area(long x)
{
    return last ? last->area(x) : -1;
}
METHOD(make)
METHOD(area)
MODULE(ENTRY(make), ENTRY(area))
