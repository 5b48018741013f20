//: edit: another optimisation level for one function
//: live: it has other code, which is what was asked for
//: swapped: area
//: ask: ext.area(3)
#include "ext.h"

//+__attribute__((optimize("O0")))
long area(long x)
{
    return x * 3 + x / 5;
}
METHOD(area)
MODULE(ENTRY(area))
