//: edit: a function is removed whose address was stored by a call
//: live: whoever has the address goes on calling the old code, which is said
//: note: `twice` was removed: the old one stays callable
//: swapped: py_choose
//: run: ext.choose(1)
//: kept: ext.call(3)
//: ask: ext.choose(0), ext.call(3)
#include "ext.h"

static long (*chosen)(long);
//-static long twice(long x)
//-{
//-    return x * 2;
//-}
//+static long thrice(long x)
//+{
//+    return x * 3;
//+}
static long choose(long x)
{
//-    chosen = twice;
//+    chosen = thrice;
    return x;
}
static long call(long x)
{
    return chosen ? chosen(x) : -1;
}
METHOD(choose)
METHOD(call)
MODULE(ENTRY(choose), ENTRY(call))
