//: edit: a parameter of another type, where the address of the function is stored
//: refused prototype-changed: the pointer that is stored passes a long, the new code would look for a double
//: run: ext.choose(1)
//: ask: ext.call(3)
#include "ext.h"

static long (*chosen)(long);
//-static long twice(long x)
//+static long twice(double x) //!
{
    return x * 2;
}
static long choose(long x)
{
//-    chosen = twice;
//+    chosen = (long (*)(long))twice;
    return x;
}
static long call(long x)
{
    return chosen ? chosen(x) : -1;
}
METHOD(choose)
METHOD(call)
MODULE(ENTRY(choose), ENTRY(call))
