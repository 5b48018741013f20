//: edit: the documentation of a method
//: live: the live entry gets the new text, and every function object made of it shows it
//: swapped:
//: ask: ext.area(3), ext.area.__doc__
#include "ext.h"

long area(long x)
{
    return x * 3;
}
METHOD(area)
static PyMethodDef table[] = {
//-    {"area", py_area, METH_O, "How large it is."},
//+    {"area", py_area, METH_O, "How large it is, in square yards."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
