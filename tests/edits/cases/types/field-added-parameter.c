//: edit: a field more in a struct that an unchanged function gets by pointer
//: refused type-layout: what it does with the rest of the object was compiled for the old size
//: run: grow(0)
//: ask: ext.area(3)
#include "ext.h"

struct box {
    long width, height;
//+    long depth; //!
};
static struct box boxes[2] = {{2, 3}, {4, 5}};
long grow(struct box *from)
{
    return from ? from[1].width : (long)(boxes + 1);
}
static long area(long x)
{
    struct box *box = &boxes[x & 1];
//-    return box->width * box->height;
//+    return box->width * box->height * box->depth;
}
METHOD(area)
MODULE(ENTRY(area))
