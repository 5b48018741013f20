//: edit: const taken from a table that is then written
//: refused variable-section: the live one is in memory that cannot be written
//: ask: ext.price(1)
#include "ext.h"

//-static const long prices[4] = {10, 20, 30, 40};
//+static long prices[4] = {10, 20, 30, 40}; //!
long price(long x)
{
//-    return prices[x & 3];
//+    return prices[x & 3]++;
}
METHOD(price)
MODULE(ENTRY(price))
