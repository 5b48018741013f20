//: edit: a live pointer to a union becomes one to a struct
//: refused variable-type: it points to a union, whose members lie on each other
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

//-union value { long whole; double broken; };
//-static union value *last;
//+struct value { long whole; double broken; };
//+static struct value *last; //!
static long make(long x)
{
    last = malloc(sizeof *last);
    last->broken = 1, last->whole = x;
    return x;
}
static long look(long x)
{
    return last ? last->whole + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
