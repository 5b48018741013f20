//: edit: a member more in a table of members
//: live: a descriptor of it is put into the type
//: swapped:
//: ask: ext.Counter().twice, repr(ext.Counter.twice)
#include "ext.h"
#include <structmember.h>

typedef struct { PyObject_HEAD long count; } Counter;
static PyMemberDef members[] = {
    {"once", T_LONG, offsetof(Counter, count), 0, NULL},
//+    {"twice", T_LONG, offsetof(Counter, count), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Counter", .tp_basicsize = sizeof(Counter),
    .tp_members = members, .tp_flags = Py_TPFLAGS_DEFAULT, .tp_new = PyType_GenericNew};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddType(module, &type);
    return module;
}
