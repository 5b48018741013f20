//: edit: an entry more in a const table
//: live: constants are not live state: the new table is the new code's own
//: swapped: price
//: ask: [ext.price(n) for n in range(6)]
#include "ext.h"

//-static const long prices[] = {10, 20, 30, 40};
//+static const long prices[] = {10, 20, 30, 40, 50};
long price(long x)
{
    return prices[x % (long)(sizeof prices / sizeof *prices)];
}
METHOD(price)
MODULE(ENTRY(price))
