//: edit: a constant is defined in another unit, as a variable
//: refused variable-section: the live one cannot be written to
//: ask: ext.more(2)
//@ ext.c
#include "ext.h"

//-const long level[2] = {5};
//+extern long level[2];
static long more(long x)
{
//-    return ((const volatile long *)level)[x & 1];
//+    return ((volatile long *)level)[x & 1];
}
METHOD(more)
MODULE(ENTRY(more))
//@ other.c
//+long level[2] = {5}; //!
long look(long x)
{
//-    return 2 * x;
//+    return level[0] = x;
}
