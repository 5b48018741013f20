//: edit: a keyword argument with another name, in a list that is not const
//: nothing to do: the live list is kept, and that is said
//: note: the live value is kept
//: kept: ext.area(width=4)
//: ask: ext.area(5)
#include "ext.h"

static PyObject *area(PyObject *self, PyObject *args, PyObject *names)
{
//-    static char *words[] = {"width", NULL};
//+    static char *words[] = {"breadth", NULL};
    long width;
    if (!PyArg_ParseTupleAndKeywords(args, names, "l", words, &width) || !self)
        return NULL;
    return PyLong_FromLong(width * 3);
}
MODULE({"area", (PyCFunction)(void *)area, METH_VARARGS | METH_KEYWORDS, NULL})
