//: edit: a new static function, called by an old one
//: live: it comes with the new code
//: swapped: area
//: ask: [ext.area(n) for n in range(5)]
#include "ext.h"

//+static __attribute__((noinline)) long square(long x)
//+{
//+    return x * x;
//+}
long area(long x)
{
//-    return x * 3;
//+    return square(x) * 3;
}
METHOD(area)
MODULE(ENTRY(area))
