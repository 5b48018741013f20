//: edit: a constant more in the module, and code that it goes with
//: live: the code is new; module init is not run again, and that is said
//: note: module init is not run again
//: ask: ext.area(3)
#include "ext.h"

long area(long x)
{
//-    return x * 3;
//+    return x * 4;
}
METHOD(area)
static PyMethodDef methods[] = {ENTRY(area), {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = methods};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
//-    PyModule_AddIntConstant(module, "SIDES", 3);
//+    PyModule_AddIntConstant(module, "SIDES", 4);
    return module;
}
