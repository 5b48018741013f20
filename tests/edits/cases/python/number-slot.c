//: edit: an operator more in a type's table of numbers
//: refused type-object: the type was made ready when the module was imported
//: ask: hasattr(ext.Counter, "__sub__")
#include "ext.h"

static PyObject *either(PyObject *a, PyObject *b)
{
    return PyLong_FromLong(a != b);
}
static PyNumberMethods operators = { //!
    .nb_add = either,
//+    .nb_subtract = either,
};
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(PyObject),
    .tp_as_number = &operators, .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
