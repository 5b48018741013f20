//: edit: const added to a variable
//: refused variable-section: the live one may hold another value by now than new code would be compiled for
//: run: [set_limit(8)]
//: kept: ext.look(0)
//: ask: ext.look(1)
#include "ext.h"

//-long limit = 5;
//+const long limit = 5; //!
long *volatile door;
long set_limit(long x)
{
    door = (long *)&limit;
    return *door = x;
}
static long look(long x)
{
    return limit + x;
}
METHOD(look)
MODULE(ENTRY(look))
