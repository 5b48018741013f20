//: edit: a field more in a struct that Python objects point to
//: refused type-layout: objects that live point to ones without it
//: run: setattr(ext, "one", ext.Counter())
//: run: ext.one(), ext.one()
//: ask: ext.one()
#include "ext.h"

struct inner { //!
//+    long version;
    long count;
};
typedef struct { PyObject_HEAD struct inner *inner; } Counter;
static PyObject *call(PyObject *self, PyObject *args, PyObject *names)
{
    Counter *counter = (Counter *)self;
    if (!counter->inner)
        counter->inner = calloc(1, sizeof *counter->inner);
    return args && !names ? PyLong_FromLong(++counter->inner->count) : NULL;
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
