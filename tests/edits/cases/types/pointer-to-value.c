//: edit: a pointer in a live struct becomes what it pointed to
//: refused type-layout: sizes are equal, and an address would be read as the value
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct inner { long value; };
struct outer { //!
    long id;
//-    struct inner *inner;
//+    struct inner inner;
};
static struct inner known = {7};
static struct outer *last;
static long make(long x)
{
    last = malloc(sizeof *last);
//-    *last = (struct outer){x, &known};
//+    *last = (struct outer){x, known};
    return x;
}
static long look(long x)
{
//-    return last ? last->inner->value + x : -1;
//+    return last ? last->inner.value + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
