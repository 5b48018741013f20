//: edit: an entry of a const table
//: live: who reads it is swapped and reads the new one
//: swapped: price
//: ask: [ext.price(n) for n in range(4)]
#include "ext.h"

//-static const long prices[4] = {10, 20, 30, 40};
//+static const long prices[4] = {10, 20, 33, 40};
long price(long x)
{
    return prices[x & 3];
}
METHOD(price)
MODULE(ENTRY(price))
