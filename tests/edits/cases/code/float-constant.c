//: edit: a floating constant
//: live: it stands in a constant pool, so no byte of the function changes; the content is compared
//: swapped: scale py_scaled
//: ask: ext.scaled(3), scale.double(2.5)
#include "ext.h"

double scale(double x)
{
//-    return x * 1.25;
//+    return x * 1.75;
}
static long scaled(long x)
{
//-    return x * 0.5 + 2.25;
//+    return x * 0.5 + 3.25;
}
METHOD(scaled)
MODULE(ENTRY(scaled))
