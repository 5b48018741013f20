//: edit: a switch becomes a table
//: live: the table is read-only data and comes with the new code
//: swapped: price
//: ask: [ext.price(n) for n in range(-1, 8)]
#include "ext.h"

long price(long n)
{
//-    switch (n) {
//-    case 0: return 11;
//-    case 1: return 7;
//-    case 2: return 90;
//-    case 3: return 5;
//-    case 4: return 17;
//-    default: return -4;
//-    }
//+    static const long prices[] = {11, 8, 91, 5, 17, 33};
//+    return n >= 0 && n < 6 ? prices[n] : -4;
}
METHOD(price)
MODULE(ENTRY(price))
