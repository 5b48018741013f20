//: edit: a struct that one function makes on its stack and hands to another
//: live: both are swapped in one step, and no object of it outlives a call
//: swapped: area multiply
//: ask: [ext.area(n) for n in range(4)]
#include "ext.h"

struct box {
    long width, height;
//+    long depth;
};
static __attribute__((noinline)) long multiply(const struct box *box)
{
//-    return box->width * box->height;
//+    return box->width * box->height * box->depth;
}
long area(long x)
{
//-    struct box box = {x, x + 1};
//+    struct box box = {x, x + 1, 3};
    return multiply(&box);
}
METHOD(area)
MODULE(ENTRY(area))
