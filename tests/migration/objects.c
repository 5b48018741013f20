/* Objects of every kind that shadow data must come to an end with. NAME is the module. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include "hotreload.h"

typedef struct {
    PyObject_HEAD
    PyObject *weak;
    PyObject *child;
    long ended;
} Thing;

static long ends; /* original deallocators that ran */

/* Plain: no collector, no weakrefs. */
static void plain_dealloc(PyObject *self) {
    ends++;
    Py_XDECREF(((Thing *)self)->child);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject Plain = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "objects.Plain",
    .tp_basicsize = sizeof(Thing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = plain_dealloc,
};

/* Derived: its deallocator calls that of its base. */
static void derived_dealloc(PyObject *self) {
    ends += 100;
    Plain.tp_dealloc(self);
}

static PyTypeObject Derived = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "objects.Derived",
    .tp_basicsize = sizeof(Thing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_base = &Plain,
    .tp_dealloc = derived_dealloc,
};

/* Weakable: can have weakrefs. */
static void weakable_dealloc(PyObject *self) {
    ends++;
    PyObject_ClearWeakRefs(self);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject Weakable = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "objects.Weakable",
    .tp_basicsize = sizeof(Thing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = weakable_dealloc,
    .tp_weaklistoffset = offsetof(Thing, weak),
};

/* Node: collected, a chain of any length, which only the trashcan keeps from recursing. */
static int node_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((Thing *)self)->child);
    return 0;
}

static int node_clear(PyObject *self) {
    Py_CLEAR(((Thing *)self)->child);
    return 0;
}

static void node_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, node_dealloc);
    ends++;
    Py_CLEAR(((Thing *)self)->child);
    Py_TYPE(self)->tp_free(self);
    Py_TRASHCAN_END;
}

static PyMemberDef node_members[] = {{"child", T_OBJECT, offsetof(Thing, child), 0, NULL}, {0}};

static PyTypeObject Node = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "objects.Node",
    .tp_basicsize = sizeof(Thing),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = node_dealloc,
    .tp_traverse = node_traverse,
    .tp_clear = node_clear,
    .tp_members = node_members,
};

/* Heap: made from a specification, its instances own their type. */
static void heap_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    ends++;
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot heap_slots[] = {{Py_tp_dealloc, heap_dealloc}, {0, NULL}};
static PyType_Spec heap_spec = {"objects.Heap", sizeof(Thing), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, heap_slots};

/* attach(object, id, size) -> what the data has now, a byte of which is counted up */
static PyObject *attach(PyObject *module, PyObject *args) {
    PyObject *object;
    unsigned long id;
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "Okn", &object, &id, &size))
        return NULL;
    unsigned char *data = hotreload_shadow_get_object(object, id, (size_t)size);
    return data ? PyLong_FromLong(data[size - 1]++) : NULL;
}

static PyObject *attach_raw(PyObject *module, PyObject *args) {
    unsigned long long address;
    unsigned long id;
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "Kkn", &address, &id, &size))
        return NULL;
    void *data = hotreload_shadow_get((void *)(uintptr_t)address, id, (size_t)size);
    return data ? PyLong_FromVoidPtr(data) : NULL;
}

static PyObject *peek(PyObject *module, PyObject *args) {
    PyObject *object;
    unsigned long id;
    (void)module;
    if (!PyArg_ParseTuple(args, "Ok", &object, &id))
        return NULL;
    return PyLong_FromVoidPtr(hotreload_shadow_peek(object, id));
}

static PyObject *drop(PyObject *module, PyObject *args) {
    unsigned long long address;
    unsigned long id;
    (void)module;
    if (!PyArg_ParseTuple(args, "Kk", &address, &id))
        return NULL;
    hotreload_shadow_free((void *)(uintptr_t)address, id);
    Py_RETURN_NONE;
}

static PyObject *ended(PyObject *module, PyObject *args) {
    long was = ends;
    (void)module, (void)args;
    ends = 0;
    return PyLong_FromLong(was);
}

static PyMethodDef methods[] = {
    {"attach", attach, METH_VARARGS, NULL}, {"attach_raw", attach_raw, METH_VARARGS, NULL},
    {"peek", peek, METH_VARARGS, NULL},     {"drop", drop, METH_VARARGS, NULL},
    {"ended", ended, METH_NOARGS, NULL},    {0},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "objects", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_objects(void) {
    PyTypeObject *types[] = {&Plain, &Derived, &Weakable, &Node};
    const char *names[] = {"Plain", "Derived", "Weakable", "Node"};
    PyObject *module = PyModule_Create(&definition);
    for (int i = 0; i < 4; i++) {
        if (PyType_Ready(types[i]) < 0)
            return NULL;
        Py_INCREF(types[i]);
        PyModule_AddObject(module, names[i], (PyObject *)types[i]);
    }
    PyModule_AddObject(module, "Heap", PyType_FromSpec(&heap_spec));
    return module;
}
