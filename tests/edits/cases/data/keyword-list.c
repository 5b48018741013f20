//: edit: a keyword argument more, in a list that is not const
//: refused variable-size: the live list is as long as it was; as a `const` list it would be no live state
//: ask: ext.area(2, 3), ext.area(width=4, height=5)
#include "ext.h"

static PyObject *area(PyObject *self, PyObject *args, PyObject *names)
{
//-    static char *words[] = {"width", "height", NULL};
//-    long width, height;
//-    if (!PyArg_ParseTupleAndKeywords(args, names, "ll", words, &width, &height))
//+    static char *words[] = {"width", "height", "depth", NULL}; //!
//+    long width, height, depth = 1;
//+    if (!PyArg_ParseTupleAndKeywords(args, names, "ll|l", words, &width, &height, &depth))
        return NULL;
//-    return PyLong_FromLong(width * height);
//+    return PyLong_FromLong(width * height * depth);
}
MODULE({"area", (PyCFunction)(void *)area, METH_VARARGS | METH_KEYWORDS, NULL})
