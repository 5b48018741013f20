//: edit: a member more in a union, and a larger one
//: refused type-layout: objects that were made before are smaller
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

union value { //!
    long number;
//+    struct { double x, y; } point;
};
static union value *last;
static long make(long x)
{
    last = malloc(sizeof *last);
    last->number = x;
    return x;
}
static long look(long x)
{
    return last ? last->number + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
