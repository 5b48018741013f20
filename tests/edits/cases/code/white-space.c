//: edit: white space, and braces put elsewhere
//: nothing to do: no code differs
//: ask: ext.area(3)
#include "ext.h"

//-long area(long x)
//-{
//-    return x * 3;
//-}
//+
//+long
//+area( long x ) {
//+        return x
//+                * 3;
//+}
METHOD(area)
MODULE(ENTRY(area))
