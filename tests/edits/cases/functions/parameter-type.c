//: edit: a parameter of another type, where a live table has the address of the function
//: refused prototype-changed: who calls it by the table passes a long, the new code would look for a double
//: ask: ext.call(3), ext.call(4)
#include "ext.h"

//-static long twice(long x)
//+static long twice(double x) //!
{
    return x * 2;
}
static long thrice(long x)
{
    return x * 3;
}
static void *handlers[2] = {(void *)twice, (void *)thrice};
static long call(long x)
{
    long (*handler)(long) = (long (*)(long))handlers[x & 1];
    handlers[1] = (void *)thrice;
    return handler(x);
}
METHOD(call)
MODULE(ENTRY(call))
