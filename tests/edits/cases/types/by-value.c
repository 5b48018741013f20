//: edit: a field more in a struct that an exported function takes by value
//: refused prototype-changed: a caller in another library passes it in other registers
//: ask: ext.area(3)
#include "ext.h"

//-struct box { long width, height; };
//+struct box { long width, height, depth; };
long volume(struct box box) //!
{
//-    return box.width * box.height;
//+    return box.width * box.height * box.depth;
}
static long area(long x)
{
//-    return volume((struct box){x, x});
//+    return volume((struct box){x, x, x});
}
METHOD(area)
MODULE(ENTRY(area))
