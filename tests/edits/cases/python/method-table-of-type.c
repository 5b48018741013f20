//: edit: a method more in the table of a type
//: live: a descriptor of it is put into the type
//: swapped:
//: ask: ext.Counter().twice(), repr(ext.Counter.twice)
#include "ext.h"

static PyObject *twice(PyObject *self, PyObject *none)
{
    return PyLong_FromLong((self != none) * 2);
}
static PyMethodDef rows[] = {
    {"once", twice, METH_NOARGS, NULL},
//+    {"twice", twice, METH_NOARGS, NULL},
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
