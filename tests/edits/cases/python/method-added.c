//: edit: a method more in the table of a module
//: live: a function object of it is put into the module
//: swapped:
//: ask: ext.area(3), ext.edge(3), repr(ext.edge), ext.edge.__module__
#include "ext.h"

long area(long x)
{
    return x * 3;
}
METHOD(area)
//+long edge(long x)
//+{
//+    return x * 4;
//+}
//+METHOD(edge)
static PyMethodDef table[] = {
    ENTRY(area),
//+    ENTRY(edge),
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
