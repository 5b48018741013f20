//: edit: a field more in a struct that is kept in a capsule
//: refused type-layout: the capsule that lives has an object without it
//: run: setattr(ext, "one", ext.make(3))
//: ask: ext.look(ext.one)
#include "ext.h"

struct context { //!
//+    long version;
    long sum;
};
static PyObject *make(PyObject *self, PyObject *arg)
{
    struct context *made = calloc(1, sizeof *made);
    made->sum = PyLong_AsLong(arg) + 0 * (self == NULL);
    return PyCapsule_New(made, "ext.context", NULL);
}
static PyObject *look(PyObject *self, PyObject *capsule)
{
    struct context *context = PyCapsule_GetPointer(capsule, "ext.context");
    return context && self ? PyLong_FromLong(context->sum) : NULL;
}
MODULE({"make", make, METH_O, NULL}, {"look", look, METH_O, NULL})
