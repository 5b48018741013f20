//: edit: a method of an object becomes one of its class
//: refused method-flags: the descriptor in the type was made for objects
//: ask: ext.Counter().once()
#include "ext.h"

static PyObject *once(PyObject *self, PyObject *none)
{
    return PyLong_FromLong((self != none) * 2);
}
static PyMethodDef rows[] = { //!
//-    {"once", once, METH_NOARGS, NULL},
//+    {"once", once, METH_NOARGS | METH_CLASS, NULL},
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
