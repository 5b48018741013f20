#include <Python.h>

struct total { long sum; };
static struct total total;

static PyObject *add(PyObject *self, PyObject *arg)
{
    total.sum += PyLong_AsLong(arg);
    return PyLong_FromLong(total.sum);
}

static PyMethodDef methods[] = {{"add", add, METH_O, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_count", 0, -1, methods};
PyMODINIT_FUNC PyInit__count(void) { return PyModule_Create(&module); }
