//: edit: code in the cold part of a function
//: live: the part belongs to its function
//: swapped: guard
//: ask: [ext.guard(n) for n in (0, 5, 1000, 1001, 7000)]
#include "ext.h"

__attribute__((cold, noinline)) long trouble(long n)
{
    return n / 7;
}
long guard(long n)
{
    if (__builtin_expect(n > 1000, 0))
        goto out;
    return n + 1;
out:
//-    return trouble(n) + n * 2;
//+    return trouble(n + 7) - n * 3;
}
METHOD(guard)
MODULE(ENTRY(guard))
