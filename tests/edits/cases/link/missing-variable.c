//: edit: a use of a variable that exists nowhere
//: refused SYMBOL: the process says so before anything is redirected, not at the first use
//: ask: ext.area(3)
#include "ext.h"

//+extern long nowhere_to_be_found;
static long area(long x)
{
//-    return x * 3;
//+    return nowhere_to_be_found + x;
}
METHOD(area)
MODULE(ENTRY(area))
