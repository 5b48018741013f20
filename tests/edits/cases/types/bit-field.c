//: edit: the width of a bit-field in a live struct
//: refused type-layout: the bits behind it would move
//: run: ext.set(3)
//: kept: ext.get(0)
//: ask: ext.get(1)
#include "ext.h"

struct flags { //!
//-    unsigned int level : 3, mode : 5;
//+    unsigned int level : 4, mode : 5;
};
static struct flags flags;
static long set(long x)
{
    flags.level = x, flags.mode = x + 8;
    return x;
}
static long get(long x)
{
    return flags.level * 100 + flags.mode + x;
}
METHOD(set)
METHOD(get)
MODULE(ENTRY(set), ENTRY(get))
