//: edit: a struct inside a struct inside a live array
//: refused type-layout, variable-size: all that is behind it moves
//: run: ext.put(3)
//: kept: ext.put(0)
//: ask: ext.put(1)
#include "ext.h"

struct inner { //!
    short low;
//+    long high;
};
struct outer { long id; struct inner inner; long count; };
static struct outer all[3];
static long put(long x)
{
    all[1].count += x;
    return all[1].count;
}
METHOD(put)
MODULE(ENTRY(put))
