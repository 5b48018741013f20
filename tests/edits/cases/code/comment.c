//: edit: comments
//: nothing to do: no code differs
//: run: ext.area(3)
//: kept: var("calls")
//: ask: ext.area(3)
//-/* How large it is. */
//+/* How large the thing is that we were given,
//+ * in square yards. */
#include "ext.h"

long calls;
long area(long x)
{
//+    /* counted since Tuesday */
    calls++;
//-    return x * 3;
//+    return x * 3; // three of them
}
METHOD(area)
MODULE(ENTRY(area))
