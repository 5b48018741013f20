//: edit: a new C++ object with a constructor, at -O0
//: refused constructor-added: nobody would construct it
//: flags: -O0
//: ask: ext.look(3)
#include "ext.h"

struct Level {
    long value;
    explicit Level(long v) : value(v + (getenv("HOME") != NULL)) {}
};
//+static Level level(100); //!
static long look(long x)
{
//-    return x;
//+    return level.value + x;
}
METHOD(look)
MODULE(ENTRY(look))
