//: edit: a function that is written in assembly at top level
//: refused no-hook: it has no entry that could be redirected
//: no line: no debug information describes assembly at top level
//: ask: ext.area(3)
#include "ext.h"

long triple(long x);
__asm__(".text\n.globl triple\n.type triple, @function\n"
        "triple: lea (%rdi,%rdi,2), %rax\n"
//+        "inc %rax\n"
        "ret\n.size triple, .-triple\n");
static long area(long x)
{
    return triple(x);
}
METHOD(area)
MODULE(ENTRY(area))
