//: edit: a field more in a struct behind a static pointer inside a function
//: refused type-layout: objects that were made before have no room for it
//: run: ext.push(3)
//: kept: ext.push(0)
//: ask: ext.push(1)
#include "ext.h"

struct item { //!
    struct item *next;
//+    long weight;
    long id;
};
static long push(long x)
{
    static struct item *first;
    if (x) {
        struct item *made = calloc(1, sizeof *made);
        made->next = first, made->id = x;
        first = made;
    }
    return first ? first->id : -1;
}
METHOD(push)
MODULE(ENTRY(push))
