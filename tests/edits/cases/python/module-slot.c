//: edit: a slot more in the table of a module that is made in two phases
//: refused module-def: the slots were run when the module was imported
//: ask: hasattr(ext, "SIDES"), hasattr(ext, "EDGES")
#include "ext.h"

static int fill(PyObject *module)
{
    return PyModule_AddIntConstant(module, "SIDES", 3);
}
//+static int fill_more(PyObject *module)
//+{
//+    return PyModule_AddIntConstant(module, "EDGES", 3);
//+}
static PyModuleDef_Slot slots[] = { //!
    {Py_mod_exec, fill},
//+    {Py_mod_exec, fill_more},
    {0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_slots = slots};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModuleDef_Init(&definition);
}
