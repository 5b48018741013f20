//: edit: a new variable that only a constructor sets
//: refused constructor-added: it has run, so the new code would find nothing there
//: ask: ext.look(3)
#include "ext.h"

static long level;
//+static long *door; //!
__attribute__((constructor)) static void begin(void)
{
    level = 50;
//+    door = &level;
}
static long look(long x)
{
//-    return level + x;
//+    return *door + x;
}
METHOD(look)
MODULE(ENTRY(look))
