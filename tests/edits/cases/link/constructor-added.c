//: edit: a new constructor of the library
//: refused constructor-added: the library was loaded long ago, nobody would run it
//: ask: ext.look(3)
#include "ext.h"

static long level = 1;
//+__attribute__((constructor)) static void begin(void) //!
//+{
//+    level = 100;
//+}
static long look(long x)
{
    return level + x;
}
METHOD(look)
MODULE(ENTRY(look))
