//: edit: a slot more in the specification of a heap type
//: refused type-object: the type was made from it when the module was imported
//: run: setattr(ext, "one", ext.Counter())
//: ask: "Counter object" in repr(ext.one)
#include "ext.h"

static PyObject *shown(PyObject *self)
{
    (void)self;
    return PyUnicode_FromString("a counter");
}
static PyType_Slot slots[] = { //!
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_doc, "Counts."},
//-    {0, shown},
//+    {Py_tp_repr, shown},
    {0, NULL},
};
static PyType_Spec spec = {"ext.Counter", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT, slots};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1};
PyMODINIT_FUNC PyInit_ext(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyModule_AddObject(module, "Counter", PyType_FromSpec(&spec));
    return module;
}
