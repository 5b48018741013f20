//: edit: the name of a static type
//: refused type-object: the type was made ready when the module was imported
//: ask: ext.Counter.__name__
#include "ext.h"

static PyTypeObject type = { //!
//-    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
//+    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Tally", .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddObject(module, "Counter", PyType_Ready(&type) ? NULL : (PyObject *)&type);
    return module;
}
