//: edit: a field more, in what was padding
//: refused type-layout: nobody has ever written there, so its value is anybody's guess
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct item { //!
    char kind;
//+    char colour;
    long id;
};
static struct item *last;
static long make(long id)
{
    last = malloc(sizeof *last);
    last->kind = 'a';
    last->id = id;
    return id;
}
static long look(long x)
{
//-    return last ? last->id + last->kind + x : -1;
//+    return last ? last->id + last->kind + last->colour + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
