//: edit: a method more in a table that code goes over by itself
//: refused method-table: the code would go over the live one, and beyond its end
//: ask: ext.area(3), hasattr(ext, "edge")
#include "ext.h"

static PyMethodDef table[]; //!
long area(long x);
METHOD(area)
static PyMethodDef table[] = {
    ENTRY(area),
//+    {"edge", py_area, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
long area(long x)
{
    long flags = 0;
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        flags += table[i].ml_flags;
    return x * flags;
}
MODULE(ENTRY(area))
