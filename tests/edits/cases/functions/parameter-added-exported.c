//: edit: a parameter more for an exported function
//: refused prototype-changed: a caller in another library passes one argument, whatever stands in the other register
//: ask: ext.area(3), scaled(4)
#include "ext.h"

//-long scaled(long x)
//+long scaled(long x, long by) //!
{
//-    return x * 10;
//+    return x * by;
}
long area(long x)
{
//-    return scaled(x) + 1;
//+    return scaled(x, 20) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
