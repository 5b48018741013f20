//: edit: a value in the middle of an enum that a live variable has
//: refused type-layout: the number that is there means something else now
//: run: ext.paint(1)
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

//-enum colour { RED, BLUE };
//+enum colour { RED, GREEN, BLUE }; //!
static enum colour colour;
static long paint(long x)
{
    colour = x ? BLUE : RED;
    return x;
}
static long look(long x)
{
    return colour == BLUE ? 100 : x;
}
METHOD(paint)
METHOD(look)
MODULE(ENTRY(paint), ENTRY(look))
