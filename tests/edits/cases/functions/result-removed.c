//: edit: an exported function returns nothing any more
//: refused prototype-changed: a caller in another library would go on reading a result
//: ask: ext.area(3), note(4)
#include "ext.h"

long noted;
//-long note(long x)
//+void note(long x) //!
{
//-    return noted += x;
//+    noted += x + (long)getenv("NEVER");
}
static long area(long x)
{
//-    return note(x);
//+    note(x);
//+    return noted;
}
METHOD(area)
MODULE(ENTRY(area))
