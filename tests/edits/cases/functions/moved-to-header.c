//: edit: a function moves to a header as it is
//: nothing to do: it is the same function
//: ask: ext.area(3)
//@ scaled.h
//+static __attribute__((noinline)) long scaled(long x)
//+{
//+    return x * 10;
//+}
extern int nothing;
//@ ext.c
#include "ext.h"
#include "scaled.h"

//-static __attribute__((noinline)) long scaled(long x)
//-{
//-    return x * 10;
//-}
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
