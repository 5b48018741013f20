//: edit: a method more in a table that is const
//: refused method-table, module-def: the memory of the live one is read-only
//: ask: ext.area(3), hasattr(ext, "edge")
#include "ext.h"

long area(long x) { return x * 3; }
METHOD(area)
static const PyMethodDef table[] = { //!
    ENTRY(area),
//+    {"edge", py_area, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = (PyMethodDef *)table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
