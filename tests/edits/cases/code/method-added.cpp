//: edit: a method of a C++ class that is not virtual
//: live: objects that live are as they were
//: swapped: _ZL7py_areaP7_objectS0_
//: run: ext.make(3)
//: ask: ext.area(1)
#include "ext.h"

struct Shape {
    long size;
    explicit Shape(long s) : size(s) {}
//+    long edge() const { return 4 * size; }
    virtual long area(long x) const { return size * size + x; }
};
static Shape *last;
static long make(long x)
{
    last = new Shape(x);
    return x;
}
static long area(long x)
{
//-    return last ? last->area(x) : -1;
//+    return last ? last->area(x) + last->edge() : -1;
}
METHOD(make)
METHOD(area)
MODULE(ENTRY(make), ENTRY(area))
