//: edit: a slot more in a static type
//: refused type-object: the type was made ready when the module was imported
//: run: setattr(ext, "one", ext.Counter())
//: ask: "Counter object" in repr(ext.one)
#include "ext.h"

//+static PyObject *shown(PyObject *self)
//+{
//+    return PyUnicode_FromFormat("a counter at %p", self);
//+}
static PyTypeObject type = { //!
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
//+    .tp_repr = shown,
    .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
