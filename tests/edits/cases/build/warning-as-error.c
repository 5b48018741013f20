//: edit: code with a warning, where warnings are errors
//: build error: the build's own flags hold; the old code serves
//: flags: -O2 -Wall -Werror
//: ask: ext.area(3)
#include "ext.h"

static long area(long x)
{
//-    return x * 3;
//+    long unused;
//+    return x * 4;
}
METHOD(area)
MODULE(ENTRY(area))
