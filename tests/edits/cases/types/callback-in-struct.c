//: edit: a function pointer in a live struct gets a parameter more
//: refused type-layout: the function that it points to does not take it
//: run: ext.make(3)
//: ask: ext.call(1)
#include "ext.h"

struct hook { //!
//-    long (*call)(long);
//+    long (*call)(long, void *);
    long times;
};
//-static long twice(long x) { return 2 * x; }
//+static long twice(long x, void *data) { return 2 * x + (data != NULL); }
static struct hook *hook;
static long make(long x)
{
    hook = malloc(sizeof *hook);
    *hook = (struct hook){twice, x};
    return x;
}
static long call(long x)
{
//-    return hook ? hook->call(x) * hook->times : -1;
//+    return hook ? hook->call(x, hook) * hook->times : -1;
}
METHOD(make)
METHOD(call)
MODULE(ENTRY(make), ENTRY(call))
