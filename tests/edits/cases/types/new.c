//: edit: a new struct, and a new static variable of it
//: live: nothing that lives has it
//: swapped: py_area
//: ask: [ext.area(n) for n in range(4)]
#include "ext.h"

//+struct box { long width, height; };
//+static struct box last = {2, 3};
static long area(long x)
{
//-    return x * 3;
//+    last.width += x;
//+    return last.width * last.height;
}
METHOD(area)
MODULE(ENTRY(area))
