//: edit: a field more in a struct that unchanged functions get by pointer
//: refused type-layout: they were compiled for objects without it, and such objects live
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct box { //!
    long width;
//+    long depth;
};
static void *last;
long width(const struct box *box)
{
    return box->width;
}
static long make(long x)
{
    struct box *made = last = calloc(1, sizeof *made);
    made->width = x;
    return x;
}
static long look(long x)
{
    struct box *box = last;
//-    return box ? width(box) + x : -1;
//+    return box ? width(box) + x + box->depth : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
