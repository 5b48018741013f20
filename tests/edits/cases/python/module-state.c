//: edit: a field more in a module's state
//: refused type-layout, module-def: the state was allocated when the module was imported
//: ask: ext.count(0)
#include "ext.h"

struct state { //!
    long count;
//+    long last;
};
static PyObject *count(PyObject *module, PyObject *arg)
{
    struct state *state = PyModule_GetState(module);
//-    (void)arg;
//+    state->last = PyLong_AsLong(arg);
    return PyLong_FromLong(++state->count);
}
static PyMethodDef methods[] = {{"count", count, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "ext", .m_methods = methods, .m_size = sizeof(struct state)};
PyMODINIT_FUNC PyInit_ext(void)
{
    return PyModule_Create(&definition);
}
