//: edit: a live array of 2 by 3 becomes one of 3 by 2
//: refused variable-type: sizes are equal, and yet each element would be read as another
//: run: ext.put(3)
//: kept: ext.get(0)
//: ask: ext.get(1)
#include "ext.h"

//-static long grid[2][3];
//+static long grid[3][2]; //!
static long put(long x)
{
    return grid[1][0] = x;
}
static long get(long x)
{
    return grid[1][0] + x;
}
METHOD(put)
METHOD(get)
MODULE(ENTRY(put), ENTRY(get))
