//: edit: code behind the labels of a computed goto
//: live: the table of labels points into the new code
//: swapped: walk
//: ask: [ext.walk(n) for n in range(9)]
#include "ext.h"

long walk(long n)
{
    static const void *const where[] = {&&one, &&two, &&three};
    long sum = n;
    goto *where[n % 3];
one:
//-    sum += 1;
//+    sum += 5;
two:
    sum += 20;
//-    goto *where[2];
//+    if (n < 5) goto *where[2];
three:
    return sum * 3;
}
METHOD(walk)
MODULE(ENTRY(walk))
