//: edit: a call of a function that exists nowhere
//: refused SYMBOL: the process says so before anything is redirected, not at the first call
//: ask: ext.area(3)
#include "ext.h"

//+long nowhere_to_be_found(long x);
static long area(long x)
{
//-    return x * 3;
//+    return nowhere_to_be_found(x);
}
METHOD(area)
MODULE(ENTRY(area))
