//: edit: a method more in the table of a type, of a name for which types have a slot
//: refused method-special: classes that exist have looked for it already, and found nothing
//: ask: hasattr(ext.Counter(), "__len__")
#include "ext.h"

static PyObject *once(PyObject *self, PyObject *none)
{
    return PyLong_FromLong((self != none) * 2);
}
static PyMethodDef rows[] = { //!
    {"once", once, METH_NOARGS, NULL},
//+    {"__len__", once, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
    .tp_methods = rows, .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
