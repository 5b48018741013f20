//: edit: the body of a C++ method that throws
//: live: the unwinder finds its way through new code
//: swapped: _ZNK5Shape4areaEv
//: ask: [ext.area(n) for n in range(4)]
#include "ext.h"
#include <stdexcept>

struct Shape {
    long edge;
    __attribute__((noinline)) long area() const;
};
long Shape::area() const
{
//-    if (edge > 2) throw std::range_error("too long");
//-    return edge * edge;
//+    if (edge > 1) throw std::range_error("much too long");
//+    return edge * edge + 1;
}
static long area(long x)
{
    try {
        return Shape{x}.area();
    } catch (const std::range_error &error) {
        return -(long)strlen(error.what());
    }
}
METHOD(area)
MODULE(ENTRY(area))
