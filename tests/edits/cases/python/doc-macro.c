//: edit: the documentation of a method, by PyDoc_STRVAR
//: nothing to do: the old text is what Python has; it is said so, and means nothing to any code
//: note: Python shows the old text until a restart
//: ask: ext.area(3)
#include "ext.h"

//-PyDoc_STRVAR(area_doc, "How large it is.");
//+PyDoc_STRVAR(area_doc, "How large it is, all in all.");
long area(long x)
{
    return x * 3;
}
METHOD(area)
MODULE({"area", py_area, METH_O, area_doc})
