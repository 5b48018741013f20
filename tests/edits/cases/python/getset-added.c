//: edit: an attribute more in a table of getters
//: live: a descriptor of it is put into the type
//: swapped:
//: ask: ext.Counter().size, ext.Counter().twice, repr(ext.Counter.twice)
#include "ext.h"

static PyObject *size(PyObject *self, void *times)
{
    return PyLong_FromLong((self != NULL) * (long)times);
}
static PyGetSetDef attributes[] = {
    {"size", size, NULL, NULL, (void *)1},
//+    {"twice", size, NULL, NULL, (void *)2},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
    .tp_getset = attributes, .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
