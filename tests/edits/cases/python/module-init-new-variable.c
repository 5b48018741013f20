//: edit: a new variable that only the module's init function sets
//: refused module-init: init is not run again, so the new code would find nothing there
//: ask: ext.name()
#include "ext.h"

//+static PyObject *text; //!
static PyObject *name(PyObject *self, PyObject *none)
{
    (void)self, (void)none;
//-    return PyUnicode_FromString("ext");
//+    return PyUnicode_FromObject(text);
}
static PyMethodDef methods[] = {{"name", name, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = methods};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
//+    text = PyUnicode_InternFromString("extension");
    return module;
}
