//: edit: the body of a function that returns a struct by value
//: live: the place for the result is handed on
//: swapped: make
//: ask: [ext.norm(n) for n in range(5)]
#include "ext.h"

struct box { long left, top, right, bottom; double weight; };

struct box make(struct box from, long x)
{
//-    struct box made = {from.left + x, from.top, from.right, from.bottom, 1.5};
//+    struct box made = {from.left + x, from.top + x, from.right * 2, from.bottom, from.weight * x};
    return made;
}
static long norm(long x)
{
    struct box box = make((struct box){1, 2, 3, 4, 2.0}, x);
    return box.left + 10 * box.top + 100 * box.right + 1000 * box.bottom + (long)(box.weight * 10000);
}
METHOD(norm)
MODULE(ENTRY(norm))
