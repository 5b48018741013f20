//: edit: a field in front of a struct that is only known behind a `void *`
//: refused type-layout: objects that live were made with the old layout, though no declaration says so
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct context { //!
//+    long version;
    long id;
};
static void *opaque;
static long make(long id)
{
    struct context *made = malloc(sizeof *made);
    *made = (struct context){.id = id};
    opaque = made;
    return id;
}
static long look(long x)
{
    struct context *context = opaque;
    return context ? context->id + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
