//: edit: a parameter with another name
//: nothing to do: no code differs
//: ask: ext.area(3)
#include "ext.h"

//-long area(long x)
//+long area(long width)
{
//-    return x * 3;
//+    return width * 3;
}
METHOD(area)
MODULE(ENTRY(area))
