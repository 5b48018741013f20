//: edit: a function that does not return
//: live: it leaves by longjmp, past frames that stay whole
//: swapped: leave
//: ask: [ext.attempt(n) for n in range(4)]
#include "ext.h"
#include <setjmp.h>

static jmp_buf back;
__attribute__((noreturn)) void leave(long n)
{
//-    longjmp(back, (int)n + 1);
//+    longjmp(back, (int)n + 5);
}
static long attempt(long n)
{
    int code = setjmp(back);
    if (code)
        return code * 10;
    if (n > 1)
        leave(n);
    return n;
}
METHOD(attempt)
MODULE(ENTRY(attempt))
