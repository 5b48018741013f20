//: edit: a field more in a struct behind a thread-local pointer
//: refused type-layout: each thread has one that was made before
//: run: ext.push(3)
//: kept: ext.push(0)
//: ask: ext.push(1)
#include "ext.h"

struct context { //!
//+    long version;
    long sum;
};
static __thread struct context *mine;
static long push(long x)
{
    if (!mine)
        mine = calloc(1, sizeof *mine);
    return mine->sum += x;
}
METHOD(push)
MODULE(ENTRY(push))
