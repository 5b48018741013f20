//: edit: a function that asked not to be hooked
//: refused no-hook: it has no entry that could be redirected
//: ask: ext.area(3)
#include "ext.h"

__attribute__((patchable_function_entry(0, 0))) long area(long x) //!
{
//-    return x * 3;
//+    return x * 4;
}
METHOD(area)
MODULE(ENTRY(area))
