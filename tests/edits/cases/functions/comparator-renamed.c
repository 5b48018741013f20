//: edit: a comparator gets another name
//: live: who hands it on hands on the new one
//: note: `compare` was removed: the old one stays callable
//: swapped: py_sorted
//: ask: [ext.sorted(n) for n in range(4)]
#include "ext.h"

//-static int compare(const void *a, const void *b)
//+static int by_size(const void *a, const void *b)
{
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}
static long sorted(long n)
{
    long values[4] = {5, n, 2, 9};
//-    qsort(values, 4, sizeof *values, compare);
//+    qsort(values, 4, sizeof *values, by_size);
    return values[0] * 1000 + values[1] * 100 + values[2] * 10 + values[3];
}
METHOD(sorted)
MODULE(ENTRY(sorted))
