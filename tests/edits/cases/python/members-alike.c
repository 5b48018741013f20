//: edit: a member more in a table that says what another does
//: refused method-table: each type has a copy of its own, and they are alike
//: ask: hasattr(ext.A(), "twice"), hasattr(ext.B(), "twice")
#include "ext.h"
#include <structmember.h>

typedef struct { PyObject_HEAD long count; } Counter;
static PyMemberDef a_members[] = { //!
    {"once", T_LONG, offsetof(Counter, count), 0, NULL},
//+    {"twice", T_LONG, offsetof(Counter, count), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyMemberDef b_members[] = {{"once", T_LONG, offsetof(Counter, count), 0, NULL}, {NULL, 0, 0, 0, NULL}};
static PyType_Slot a_slots[] = {{Py_tp_members, a_members}, {0, NULL}};
static PyType_Slot b_slots[] = {{Py_tp_members, b_members}, {0, NULL}};
static PyType_Spec a_spec = {"ext.A", sizeof(Counter), 0, Py_TPFLAGS_DEFAULT, a_slots};
static PyType_Spec b_spec = {"ext.B", sizeof(Counter), 0, Py_TPFLAGS_DEFAULT, b_slots};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddObject(module, "A", PyType_FromSpec(&a_spec));
    PyModule_AddObject(module, "B", PyType_FromSpec(&b_spec));
    return module;
}
