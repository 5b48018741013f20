//: edit: a struct that only the edited function has, on its stack
//: live: no object of it outlives a call
//: swapped: py_area
//: ask: [ext.area(n) for n in range(4)]
#include "ext.h"

//-struct scratch { long width; };
//+struct scratch { long width, height; double depth; };
static long area(long x)
{
//-    struct scratch box = {x};
//-    return box.width * 2;
//+    volatile struct scratch box = {x, x + 1, 2.5};
//+    return (long)(box.width * box.height * box.depth);
}
METHOD(area)
MODULE(ENTRY(area))
