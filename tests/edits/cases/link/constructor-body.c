//: edit: the body of a constructor, and nothing else
//: nothing to do: it was run when the library was loaded and is not run again, and that is said
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
