//: edit: a field in front of a struct that a live list holds as `void *`
//: refused type-layout: objects that live were made with the old layout
//: run: ext.make(3)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

struct node {
    struct node *next;
    void *value;
};
struct shape { //!
//+    long kind;
    long size;
};
static struct node *list;
static long make(long x)
{
    struct node *node = malloc(sizeof *node);
    struct shape *shape = malloc(sizeof *shape);
    *shape = (struct shape){.size = x};
    *node = (struct node){list, shape};
    list = node;
    return x;
}
static long look(long x)
{
    struct shape *shape = list ? list->value : NULL;
    return shape ? shape->size + x : -1;
}
METHOD(make)
METHOD(look)
MODULE(ENTRY(make), ENTRY(look))
