//: edit: a struct that nothing uses
//: nothing to do: no code and no state has it
//: run: ext.area(1)
//: ask: ext.area(3)
#include "ext.h"

//-struct spare { int a; };
//+struct spare { long a, b; };
static long area(long x)
{
    return x * 3;
}
METHOD(area)
MODULE(ENTRY(area))
