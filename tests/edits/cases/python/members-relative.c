//: edit: a member more in a table with offsets that are relative
//: refused method-table: the type has other numbers in its copy
//: ask: hasattr(ext.Counter(), "twice")
#include "ext.h"
#include <structmember.h>

typedef struct { PyObject_HEAD long count, more; } Counter;
#if PY_VERSION_HEX < 0x030c0000 /* where it means nothing */
#define Py_RELATIVE_OFFSET 8
enum { FIRST = offsetof(Counter, count), SIZE = sizeof(Counter) };
#else
enum { FIRST = 0, SIZE = -(int)(2 * sizeof(long)) };
#endif
static PyMemberDef members[] = { //!
    {"once", T_LONG, FIRST, Py_RELATIVE_OFFSET, NULL},
//+    {"twice", T_LONG, FIRST + sizeof(long), Py_RELATIVE_OFFSET, NULL},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot slots[] = {{Py_tp_members, members}, {0, NULL}};
static PyType_Spec spec = {"ext.Counter", SIZE, 0, Py_TPFLAGS_DEFAULT, slots};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddObject(module, "Counter", PyType_FromSpec(&spec));
    return module;
}
