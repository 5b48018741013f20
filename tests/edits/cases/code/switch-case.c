//: edit: a case more in a switch with a jump table
//: live: the jump table belongs to the function
//: swapped: price
//: ask: [ext.price(n) for n in range(-1, 10)]
#include "ext.h"

long twice(long x)
{
    return 2 * x;
}
long price(long n)
{
    switch (n) {
    case 0: return 11;
    case 1: return twice(3);
    case 2: return 90;
    case 3: return twice(n) + 1;
    case 4: return 17;
//-    case 5: return twice(8);
//+    case 5: return twice(9);
//+    case 6: return 66;
    default: return -4;
    }
}
METHOD(price)
MODULE(ENTRY(price))
