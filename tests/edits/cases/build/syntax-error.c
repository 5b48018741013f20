//: edit: a syntax error
//: build error: the compiler's text is shown; the old code serves
//: run: ext.area(1)
//: ask: ext.area(3)
#include "ext.h"

static long area(long x)
{
//-    return x * 3;
//+    return x * ;
}
METHOD(area)
MODULE(ENTRY(area))
