//: edit: assembly that needs the absolute address of a variable in 32 bits
//: refused relocation: the address does not fit where the code has it
//: ask: ext.area(3)
#include "ext.h"

__attribute__((visibility("hidden"))) long level = 1;
static long area(long x)
{
    level += 0;
//-    return x + level;
//+    long at;
//+    __asm__("movl $level, %k0" : "=r"(at));
//+    return x + at;
}
METHOD(area)
MODULE(ENTRY(area))
