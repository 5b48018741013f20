/* An extension with every kind of table that Python has: a module's functions, a static type, a heap type. What stands
 * behind //+ comes with the edit. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

typedef struct { PyObject_HEAD long width; long height; } Shape;

static long factor(void) { return 3; }

static PyObject *area(PyObject *self, PyObject *arg) { (void)self; return PyLong_FromLong(PyLong_AsLong(arg) * factor()); }
//+static long calls;
//+static PyObject *plus_o(PyObject *self, PyObject *arg) { calls++; return Py_BuildValue("OO", self, arg); }
//+static PyObject *plus_none(PyObject *self, PyObject *none) { return Py_BuildValue("Olll", self, (long)(none == NULL), factor(), calls); }
//+static PyObject *plus_args(PyObject *self, PyObject *args) { (void)self; Py_INCREF(args); return args; }
//+static PyObject *plus_words(PyObject *self, PyObject *args, PyObject *words) { (void)self; return Py_BuildValue("OO", args, words ? words : Py_None); }
//+static PyObject *plus_fast(PyObject *self, PyObject *const *args, Py_ssize_t n) { (void)self; return n ? Py_BuildValue("On", args[0], n) : PyLong_FromLong(0); }
//+static PyObject *plus_fast_words(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) { (void)self; return Py_BuildValue("OnO", args[0], n, names ? names : Py_None); }
//+static PyObject *plus_method(PyObject *self, PyTypeObject *type, PyObject *const *args, Py_ssize_t n, PyObject *names) { (void)self, (void)args, (void)names; return Py_BuildValue("On", type, n); }

static PyMethodDef functions[] = {
    {"area", area, METH_O, "area(x)\n--\n\nHow large."},
//+    {"plus_o", plus_o, METH_O, "plus_o(x, /)\n--\n\nOne argument."},
//+    {"plus_none", plus_none, METH_NOARGS, NULL},
//+    {"plus_args", plus_args, METH_VARARGS, "A tuple."},
//+    {"plus_words", (PyCFunction)(void *)plus_words, METH_VARARGS | METH_KEYWORDS, "Words."},
//+    {"plus_fast", (PyCFunction)(void *)plus_fast, METH_FASTCALL, "Fast."},
//+    {"plus_fast_words", (PyCFunction)(void *)plus_fast_words, METH_FASTCALL | METH_KEYWORDS, "Fast words."},
    {NULL, NULL, 0, NULL},
};

static PyObject *shape_area(PyObject *self, PyObject *none) { (void)none; return PyLong_FromLong(((Shape *)self)->width * ((Shape *)self)->height); }
//+static PyObject *shape_edge(PyObject *self, PyObject *none) { (void)none; return PyLong_FromLong(2 * (((Shape *)self)->width + ((Shape *)self)->height)); }
static PyMethodDef shape_methods[] = {
    {"area", shape_area, METH_NOARGS, "How large."},
//+    {"edge", shape_edge, METH_NOARGS, "How long around."},
//+    {"made_by", plus_o, METH_O | METH_CLASS, "A class method."},
//+    {"plain", plus_args, METH_VARARGS | METH_STATIC, "A static method."},
    {NULL, NULL, 0, NULL},
};
static PyObject *get_width(PyObject *self, void *closure) { return PyLong_FromLong(((Shape *)self)->width * (long)closure); }
//+static int set_width(PyObject *self, PyObject *value, void *closure) { ((Shape *)self)->width = PyLong_AsLong(value) / (long)closure; return 0; }
static PyGetSetDef shape_attributes[] = {
    {"width", get_width, NULL, "How wide.", (void *)1},
//+    {"double_width", get_width, set_width, "Twice as wide.", (void *)2},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef shape_members[] = {
    {"height", T_LONG, offsetof(Shape, height), 0, "How high."},
//+    {"raw_width", T_LONG, offsetof(Shape, width), READONLY, "As it is."},
    {NULL, 0, 0, 0, NULL},
};
static int shape_init(PyObject *self, PyObject *args, PyObject *words) { (void)words; return PyArg_ParseTuple(args, "ll", &((Shape *)self)->width, &((Shape *)self)->height) ? 0 : -1; }
static PyTypeObject shape_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext.Shape", .tp_basicsize = sizeof(Shape), .tp_init = shape_init,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, .tp_new = PyType_GenericNew,
    .tp_methods = shape_methods, .tp_getset = shape_attributes, .tp_members = shape_members};

static PyMethodDef heap_methods[] = {
    {"area", shape_area, METH_NOARGS, "How large."},
//+    {"edge", shape_edge, METH_NOARGS, "How long around."},
//+    {"whose", (PyCFunction)(void *)plus_method, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, "The class."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef heap_attributes[] = {
    {"width", get_width, NULL, "How wide.", (void *)1},
//+    {"double_width", get_width, set_width, "Twice as wide.", (void *)2},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyMemberDef heap_members[] = {
    {"height", T_LONG, offsetof(Shape, height), 0, "How high."},
//+    {"raw_width", T_LONG, offsetof(Shape, width), READONLY, "As it is."},
    {NULL, 0, 0, 0, NULL},
};
static PyType_Slot heap_slots[] = {
    {Py_tp_init, shape_init}, {Py_tp_new, PyType_GenericNew}, {Py_tp_methods, heap_methods},
    {Py_tp_getset, heap_attributes}, {Py_tp_members, heap_members}, {0, NULL}};
static PyType_Spec heap_spec = {"ext.Heap", sizeof(Shape), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, heap_slots};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (PyModule_AddType(module, &shape_type) < 0)
        return NULL;
    PyObject *heap = PyType_FromSpec(&heap_spec);
    return heap && PyModule_AddObject(module, "Heap", heap) == 0 ? module : NULL;
}
