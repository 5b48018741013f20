//: edit: an attribute with another getter, and a setter
//: live: the live entry names them, and the descriptor looks there at every use
//: swapped:
//: ask: [ext.Counter.size.__get__(ext.Counter()), setattr(ext.Counter(), "size", 4)]
#include "ext.h"

static PyObject *one(PyObject *self, void *times)
{
    return PyLong_FromLong((self != NULL) * (long)times);
}
//+static PyObject *two(PyObject *self, void *times)
//+{
//+    return PyLong_FromLong((self != NULL) * (long)times * 2);
//+}
//+static int set(PyObject *self, PyObject *value, void *times)
//+{
//+    return self && value && times ? 0 : -1;
//+}
static PyGetSetDef attributes[] = {
//-    {"size", one, NULL, NULL, (void *)1},
//+    {"size", two, set, NULL, (void *)5},
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
