//: edit: a function is removed whose address was stored
//: refused removed-referenced: whoever has the address would go on calling the old code
//: run: ext.choose(1)
//: ask: ext.call(3)
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
