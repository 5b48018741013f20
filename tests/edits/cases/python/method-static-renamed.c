//: edit: the static function behind a method is renamed
//: live: the live entry names the new function, and function objects look there at every call
//: swapped:
//: note: the old one stays callable
//: ask: ext.area(3)
#include "ext.h"

//-static PyObject *area(PyObject *self, PyObject *arg)
//+static PyObject *surface(PyObject *self, PyObject *arg)
{
    (void)self;
    return PyLong_FromLong(PyLong_AsLong(arg) * 3);
}
static PyMethodDef table[] = {
//-    {"area", area, METH_O, NULL},
//+    {"area", surface, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = table};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
