//: edit: a value at the end of an enum that a live variable has
//: live: the numbers that are there mean what they meant
//: swapped: py_paint py_look
//: run: ext.paint(1)
//: kept: ext.look(0)
//: ask: ext.look(1), ext.paint(2), ext.look(1)
#include "ext.h"

//-enum colour { RED, BLUE };
//+enum colour { RED, BLUE, GREEN };
static enum colour colour;
static long paint(long x)
{
//-    colour = x ? BLUE : RED;
//+    colour = x > 1 ? GREEN : x ? BLUE : RED;
    return x;
}
static long look(long x)
{
//-    return colour == BLUE ? 100 : x;
//+    return colour == BLUE ? 100 : colour == GREEN ? 200 : x;
}
METHOD(paint)
METHOD(look)
MODULE(ENTRY(paint), ENTRY(look))
