//: edit: a field more in the struct that a Python object's struct begins with
//: refused python-object-layout: all that is behind it moves
//: run: setattr(ext, "one", ext.Counter())
//: run: ext.one(), ext.one()
//: ask: ext.one()
#include "ext.h"

typedef struct { //!
    PyObject_HEAD
    long base;
//+    long more;
} Base;
typedef struct { Base base; long count; } Counter;
static PyObject *call(PyObject *self, PyObject *args, PyObject *names)
{
    return args && !names ? PyLong_FromLong(++((Counter *)self)->count) : NULL;
}
static PyType_Slot slots[] = {{Py_tp_call, call}, {0, NULL}};
static PyType_Spec spec = {"ext.Counter", sizeof(Counter), 0, Py_TPFLAGS_DEFAULT, slots};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddObject(module, "Counter", PyType_FromSpec(&spec));
    return module;
}
