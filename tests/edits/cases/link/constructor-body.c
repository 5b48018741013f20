//: edit: the body of a constructor
//: live: it is swapped, and it is said that it was run when the library was loaded and is not run again
//: note: begin
//: kept: ext.look(0)
//: ask: 0
#include "ext.h"

static long level = 1;
__attribute__((constructor)) static void begin(void)
{
//-    level = 50;
//+    level = 100;
}
static long look(long x)
{
    return level + x;
}
METHOD(look)
MODULE(ENTRY(look))
