//: edit: a variable more, set up by a function that only module init calls
//: refused module-init: init is not run again, and the new code would find nothing
//: ask: ext.area(3)
#include "ext.h"

//+static long *scale; //!
static __attribute__((noinline)) void set_up(void)
{
//+    scale = malloc(sizeof *scale);
//+    *scale = 7;
    PyErr_Clear();
}
static long area(long x)
{
//-    return x * 3;
//+    return x * *scale;
}
METHOD(area)
static PyMethodDef methods[] = {ENTRY(area), {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "ext", .m_size = -1, .m_methods = methods};
PyMODINIT_FUNC PyInit_ext(void)
{
    set_up();
    return PyModule_Create(&definition);
}
