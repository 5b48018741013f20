//: edit: a field more in a struct that only a const table has
//: live: constants are no live state: the new code has its own
//: swapped: py_price
//: ask: [ext.price(n) for n in range(2)]
#include "ext.h"

struct row {
    const char *name;
//+    long tax;
    long price;
};
static const struct row rows[] = {
//-    {"fork", 10},
//-    {"spoon", 20},
//+    {"fork", 1, 10},
//+    {"spoon", 2, 20},
};
static long price(long x)
{
//-    return rows[x & 1].price * (long)strlen(rows[x & 1].name);
//+    return (rows[x & 1].price + rows[x & 1].tax) * (long)strlen(rows[x & 1].name);
}
METHOD(price)
MODULE(ENTRY(price))
