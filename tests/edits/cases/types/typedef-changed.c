//: edit: a typedef that a live struct is made of
//: refused type-layout: what is behind the typedef has another size
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

//-typedef int amount;
//+typedef long amount;
struct item { //!
    amount price;
    long id;
};
static struct item *last;
static long make(long id)
{
    last = malloc(sizeof *last);
    *last = (struct item){(amount)id * 2, id};
    return id;
}
static long look(long x)
{
    return last ? last->price + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
