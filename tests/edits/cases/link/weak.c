//: edit: a weak function
//: live: it is the one that was chosen, and it has an entry
//: swapped: area
//: ask: ext.area(3)
#include "ext.h"

__attribute__((weak)) long area(long x)
{
//-    return x * 3;
//+    return x * 4;
}
METHOD(area)
MODULE(ENTRY(area))
