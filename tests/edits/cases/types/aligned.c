//: edit: a struct of live heap objects must be aligned to 64 bytes
//: refused type-layout: objects that live are where they are, and shorter
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct item { //!
    long id, weight;
//-};
//+} __attribute__((aligned(64)));
static struct item *last;
static long make(long x)
{
    last = malloc(sizeof *last);
    *last = (struct item){x, 2 * x};
    return x;
}
static long look(long x)
{
    return last ? last->weight + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
