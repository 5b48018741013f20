//: edit: another return type of an exported function
//: refused prototype-changed: a caller in another library looks for the result in the old register
//: ask: ext.area(3), half(7)
#include "ext.h"

//-long half(long x)
//+double half(long x) //!
{
//-    return x / 2;
//+    return x / 2.0;
}
long area(long x)
{
//-    return half(x) * 10;
//+    return (long)(half(x) * 10);
}
METHOD(area)
MODULE(ENTRY(area))
