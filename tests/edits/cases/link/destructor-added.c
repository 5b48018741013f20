//: edit: a new destructor of the library
//: refused constructor-added: the list of what is to be run at the end was read when the library was loaded
//: ask: ext.look(3)
#include "ext.h"

static long level = 1;
//+__attribute__((destructor)) static void end(void) //!
//+{
//+    level = 100;
//+}
static long look(long x)
{
    return level + x;
}
METHOD(look)
MODULE(ENTRY(look))
