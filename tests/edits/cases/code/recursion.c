//: edit: a recursive function
//: live: it calls itself by its entry, so all levels are new
//: swapped: depth
//: ask: [ext.depth(n) for n in range(12)]
#include "ext.h"

long depth(long n)
{
    if (n < 2)
//-        return 1;
//+        return 2;
//-    return depth(n - 1) + depth(n - 2);
//+    return depth(n - 1) + 2 * depth(n - 2);
}
METHOD(depth)
MODULE(ENTRY(depth))
