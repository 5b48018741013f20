//: edit: the documentation of a static type
//: nothing to do: the old text is what Python has; it is said so, and means nothing to any code
//: note: the live value is kept
//: ask: ext.Counter.__name__
#include "ext.h"

static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
//-    .tp_doc = "Counts.",
//+    .tp_doc = "Counts, and says so.",
    .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
