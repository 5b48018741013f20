//: edit: a function becomes a macro
//: live: who called it does without; the old one stays callable
//: note: `scaled` was removed: the old one stays callable
//: swapped: area
//: ask: ext.area(3)
#include "ext.h"

//-static __attribute__((noinline)) long scaled(long x)
//-{
//-    return x * 10;
//-}
//+#define scaled(x) ((x) * 20)
long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
