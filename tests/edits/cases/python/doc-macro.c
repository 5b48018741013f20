//: edit: the documentation of a method, by PyDoc_STRVAR
//: live: the live entry gets the new text, and every function object made of it shows it
//: swapped:
//: ask: ext.area(3), ext.area.__doc__
#include "ext.h"

//-PyDoc_STRVAR(area_doc, "How large it is.");
//+PyDoc_STRVAR(area_doc, "How large it is, all in all.");
long area(long x)
{
    return x * 3;
}
METHOD(area)
MODULE({"area", py_area, METH_O, area_doc})
