//: edit: a field more in the struct of a Python object
//: refused python-object-layout: objects that live were made with the old size
//: run: setattr(ext, "one", ext.Counter())
//: run: ext.one(), ext.one()
//: ask: ext.one()
#include "ext.h"

typedef struct { //!
    PyObject_HEAD
    long count;
//+    long last;
} Counter;
static PyObject *call(PyObject *self, PyObject *args, PyObject *names)
{
    (void)args, (void)names;
//-    return PyLong_FromLong(++((Counter *)self)->count);
//+    return PyLong_FromLong(((Counter *)self)->last = ++((Counter *)self)->count);
}
static PyTypeObject type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(Counter),
                            .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew, .tp_call = call};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
