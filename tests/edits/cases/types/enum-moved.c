//: edit: an enum whose values all move
//: refused type-layout: the number that is there means something else now
//: run: ext.begin(1)
//: kept: ext.is_open(0)
//: ask: ext.is_open(0)
#include "ext.h"

//-enum state { CLOSED, OPEN };
//+enum state { CLOSED = 1, OPEN }; //!
struct door { enum state state; long width; };
static struct door *door;
static long begin(long x)
{
    door = malloc(sizeof *door);
    door->state = x ? OPEN : CLOSED;
    return x;
}
static long is_open(long x)
{
    return door ? door->state == OPEN : x - 1;
}
METHOD(begin)
METHOD(is_open)
MODULE(ENTRY(begin), ENTRY(is_open))
