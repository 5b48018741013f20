//: edit: another algorithm in a function
//: live: what the function does is its own business
//: swapped: sum
//: ask: [ext.sum(n) for n in range(20)]
#include "ext.h"

long sum(long n)
{
//-    long total = 0;
//-    for (long i = 1; i <= n; i++)
//-        total += i * i;
//-    return total;
//+    return n * (n + 1) * (2 * n + 1) / 6 + (n > 10 ? 1 : 0);
}
METHOD(sum)
MODULE(ENTRY(sum))
