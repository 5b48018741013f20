//: edit: a method with another calling convention, and the prototype to go with it
//: refused method-flags, prototype-changed: Python would go on calling it the old way
//: ask: ext.area(3)
#include "ext.h"

//-static PyObject *area(PyObject *self, PyObject *args)
//+static PyObject *area(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
//-    long x = 0;
//-    return PyArg_ParseTuple(args, "l", &x) && self ? PyLong_FromLong(x * 3) : NULL;
//+    return n && self ? PyLong_FromLong(PyLong_AsLong(args[0]) * 4) : NULL;
}
static PyMethodDef table[] = { //!
//-    {"area", area, METH_VARARGS, NULL},
//+    {"area", (PyCFunction)(void *)area, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
