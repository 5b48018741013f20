//: edit: the function in a slot of a static type
//: live: the slot has its entry, and objects that live answer with new code
//: swapped: shown
//: run: setattr(ext, "one", ext.Counter())
//: ask: repr(ext.one), repr(ext.Counter())
#include "ext.h"

static PyObject *shown(PyObject *self)
{
    (void)self;
//-    return PyUnicode_FromString("a counter");
//+    return PyUnicode_FromString("a new counter");
}
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
    .tp_repr = shown,
    .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
