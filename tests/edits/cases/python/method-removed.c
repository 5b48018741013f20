//: edit: a method less in the table of a module
//: live: nothing else can be done to it, and it keeps working
//: swapped:
//: note: keeps working until a restart
//: ask: ext.area(3)
#include "ext.h"

long area(long x)
{
    return x * 3;
}
METHOD(area)
static PyMethodDef table[] = {
    ENTRY(area),
//-    {"edge", py_area, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
