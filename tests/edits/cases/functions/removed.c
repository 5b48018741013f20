//: edit: a static function that nobody needs any more is removed
//: live: who called it does without; the old one stays callable
//: note: `scaled` was removed: the old one stays callable
//: swapped: area
//: ask: ext.area(3)
#include "ext.h"

//-static __attribute__((noinline)) long scaled(long x)
//-{
//-    return x * 10;
//-}
long area(long x)
{
//-    return scaled(x) + 1;
//+    return x * 20;
}
METHOD(area)
MODULE(ENTRY(area))
