//: edit: the function that fills a module made in two phases
//: live: it is swapped, and it is said that it was run when the module was imported and is not run again
//: note: module init is not run again
//: kept: ext.SIDES
//: ask: 0
#include "ext.h"

static int fill(PyObject *module)
{
//-    return PyModule_AddIntConstant(module, "SIDES", 3);
//+    return PyModule_AddIntConstant(module, "SIDES", 4);
}
static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_slots = slots};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModuleDef_Init(&definition);
}
