//: edit: a struct of a header, of which another unit has a live object
//: refused type-layout: the other unit's object has the old layout
//: run: ext.push(3)
//: kept: ext.push(0)
//: ask: ext.push(1)
//@ item.h
struct item { //!
//+    long weight;
    long id;
};
extern struct item *first;
//@ ext.c
#include "ext.h"
#include "item.h"

static long push(long x)
{
    if (!first)
        first = calloc(1, sizeof *first);
    return first->id += x;
}
METHOD(push)
MODULE(ENTRY(push))
//@ item.c
#include "item.h"
struct item *first;
