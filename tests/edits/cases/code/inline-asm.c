//: edit: inline assembly with a label
//: live: it is bytes like others, and the label is local
//: swapped: bits
//: ask: [ext.bits(n) for n in (0, 1, 7, 255, 256)]
#include "ext.h"

long bits(long x)
{
    long n = 0;
    __asm__("1: test %1, %1\n\t"
            "jz 2f\n\t"
//-            "inc %0\n\t"
//+            "add $3, %0\n\t"
            "shr %1\n\t"
            "jmp 1b\n"
            "2:"
            : "+r"(n), "+r"(x)
            :
            : "cc");
    return n;
}
METHOD(bits)
MODULE(ENTRY(bits))
