//: edit: a method's entry names another function
//: live: the live entry names the other function, and function objects look there at every call
//: swapped:
//: ask: ext.area(3)
#include "ext.h"

long area(long x) { return x * 3; }
long edge(long x) { return x * 4; }
METHOD(area)
METHOD(edge)
static PyMethodDef table[] = {
//-    {"area", py_area, METH_O, NULL},
//+    {"area", py_edge, METH_O, NULL},
    {"edge", py_edge, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
