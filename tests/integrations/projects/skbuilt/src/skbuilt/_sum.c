#include <Python.h>

static long sum;

static PyObject *add(PyObject *self, PyObject *arg)
{
    sum += PyLong_AsLong(arg);
    return PyLong_FromLong(sum);
}

static PyMethodDef methods[] = {{"add", add, METH_O, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_sum", 0, -1, methods};
PyMODINIT_FUNC PyInit__sum(void) { return PyModule_Create(&module); }
