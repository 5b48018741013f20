//: edit: a live struct becomes packed
//: refused type-layout: its fields move together
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct item { //!
    char kind;
    long id;
//-};
//+} __attribute__((packed));
static struct item *last;
static long make(long id)
{
    last = malloc(sizeof(struct item));
    last->kind = 'a', last->id = id;
    return id;
}
static long look(long x)
{
    return last ? last->id + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
