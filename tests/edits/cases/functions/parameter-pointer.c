//: edit: an exported function gets a pointer to another struct
//: refused prototype-changed: a caller in another library passes what it always did
//: ask: ext.area(3)
#include "ext.h"

struct box { long width, height; };
struct circle { double radius; };
//-long measure(struct box *it)
//+long measure(struct circle *it) //!
{
//-    return it->width * it->height;
//+    return (long)(it->radius * it->radius * 3.14);
}
static long area(long x)
{
//-    struct box box = {x, x};
//-    return measure(&box);
//+    struct circle circle = {x};
//+    return measure(&circle);
}
METHOD(area)
MODULE(ENTRY(area))
