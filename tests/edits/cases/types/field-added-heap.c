//: edit: a field more in a struct whose objects are on the heap, behind a static pointer
//: refused type-layout: objects that were made before have no room for it
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct item { //!
    long id;
//+    long weight;
    struct item *next;
};
static struct item *first;
static long make(long id)
{
    struct item *made = malloc(sizeof *made);
    *made = (struct item){.id = id, .next = first};
    first = made;
    return id;
}
static long look(long x)
{
    return first && first->next ? first->next->id : first ? first->id + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
