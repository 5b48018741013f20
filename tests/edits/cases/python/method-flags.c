//: edit: a method of one argument gets a tuple of them
//: refused method-flags: Python would go on passing the argument itself to code that expects a tuple
//: ask: ext.area(3)
#include "ext.h"

static PyObject *area(PyObject *self, PyObject *args)
{
//-    return PyLong_FromLong(PyLong_AsLong(args) * 3 + 0 * (self == NULL));
//+    long x = 0, y = 3;
//+    return PyArg_ParseTuple(args, "l|l", &x, &y) ? PyLong_FromLong(x * y + 0 * (self == NULL)) : NULL;
}
static PyMethodDef table[] = { //!
//-    {"area", area, METH_O, NULL},
//+    {"area", area, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
