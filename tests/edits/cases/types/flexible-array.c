//: edit: a field more before the array at the end of a struct
//: refused type-layout: the array of objects that live begins where the new field is
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct list { //!
    long length;
//+    long used;
    long values[];
};
static struct list *list;
static long make(long x)
{
    list = calloc(1, sizeof *list + 4 * sizeof(long));
    list->length = 4;
    return list->values[0] = x;
}
static long look(long x)
{
    return list ? list->values[0] + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
