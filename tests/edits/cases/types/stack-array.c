//: edit: a macro that is the length of an array on the stack
//: live: no array of it outlives a call
//: swapped: py_sum
//: ask: [ext.sum(n) for n in range(4)]
#include "ext.h"

//-#define LENGTH 4
//+#define LENGTH 40
static long sum(long x)
{
    volatile long values[LENGTH];
    long total = 0;
    for (int i = 0; i < LENGTH; i++)
        values[i] = x * i;
    for (int i = 0; i < LENGTH; i++)
        total += values[i];
    return total;
}
METHOD(sum)
MODULE(ENTRY(sum))
