//: edit: a live pointer to a function gets a parameter more
//: refused variable-type: the function that it points to does not take it
//: run: ext.choose(1)
//: ask: ext.call(3)
#include "ext.h"

static long twice(long x) { return x * 2; }
//-static long (*chosen)(long);
//+static long (*chosen)(double, long); //!
static long choose(long x)
{
//-    chosen = twice;
//+    chosen = (long (*)(double, long))(void *)twice;
    return x;
}
static long call(long x)
{
//-    return chosen ? chosen(x) : -1;
//+    return chosen ? chosen(1.5, x) : -1;
}
METHOD(choose)
METHOD(call)
MODULE(ENTRY(choose), ENTRY(call))
