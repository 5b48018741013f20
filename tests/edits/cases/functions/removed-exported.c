//: edit: an exported function that the extension itself does not call is removed
//: nothing to do: the old one stays callable, and that is said
//: note: `scaled` was removed: the old one stays callable
//: ask: ext.area(3)
#include "ext.h"

//-long scaled(long x)
//-{
//-    return x * 10;
//-}
long area(long x)
{
    return x * 20;
}
METHOD(area)
MODULE(ENTRY(area))
