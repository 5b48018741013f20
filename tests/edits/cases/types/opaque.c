//: edit: a struct that only one unit knows, and a live pointer to it in another
//: refused type-layout: the object behind it has the old layout
//: run: ext.push(3)
//: kept: ext.push(0)
//: ask: ext.push(1)
//@ ext.c
#include "ext.h"

struct item *create(void);
long add(struct item *item, long x);
static struct item *first;
static long push(long x)
{
    if (!first)
        first = create();
    return add(first, x);
}
METHOD(push)
MODULE(ENTRY(push))
//@ item.c
#include <stdlib.h>

struct item { //!
//+    long weight;
    long id;
};
struct item *create(void)
{
    return calloc(1, sizeof(struct item));
}
long add(struct item *item, long x)
{
    return item->id += x;
}
