//: edit: a parameter less for an exported function
//: refused prototype-changed: a caller in another library passes both, the second first
//: ask: ext.area(3), scaled(2, 4)
#include "ext.h"

//-long scaled(long by, long x)
//+long scaled(long x) //!
{
//-    return x * by;
//+    return x * 10;
}
long area(long x)
{
//-    return scaled(10, x) + 1;
//+    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
