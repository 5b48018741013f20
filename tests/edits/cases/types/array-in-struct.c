//: edit: a macro that is the length of an array in a struct
//: refused type-layout, variable-size: the live array is as long as it was
//: run: ext.put(3)
//: kept: ext.last(0)
//: ask: ext.last(1)
#include "ext.h"

//-#define LENGTH 4
//+#define LENGTH 8
struct ring { //!
    long values[LENGTH];
    long last;
};
static struct ring ring;
static long put(long x)
{
    ring.last++;
    return ring.values[ring.last % LENGTH] = x;
}
static long last(long x)
{
    return ring.values[ring.last % LENGTH] + x;
}
METHOD(put)
METHOD(last)
MODULE(ENTRY(put), ENTRY(last))
