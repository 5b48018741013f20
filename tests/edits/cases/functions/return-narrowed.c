//: edit: an exported function returns an int instead of a long
//: refused prototype-changed: old callers read all 64 bits, and half of them is left undefined
//: ask: ext.area(-3), half(-8)
#include "ext.h"

//-long half(long x)
//+int half(long x) //!
{
//-    return x / 2;
//+    return (int)(x / 2) * 3;
}
long area(long x)
{
    return half(x) * 10;
}
METHOD(area)
MODULE(ENTRY(area))
