/* callable.c: from a Python object to the machine code that a call of it runs.
 *
 *   builtin_function_or_method          m_ml ─▶ ml_meth       a function of a module, a bound method, a static method
 *   method_descriptor, classmethod_...  d_method ─▶ ml_meth   a method of a type, as its dictionary has it
 *   getset_descriptor                   d_getset ─▶ get, set
 *   wrapper_descriptor                  d_wrapped             a slot: __repr__, __add__, ...
 *
 * Called with the GIL held, as any function of an extension; nothing of the object is changed and nothing is called.
 */
#define _GNU_SOURCE 1
#include "state.h"

#include <dlfcn.h>
#include <string.h>

#define ENTRY_LEN 8

/* The addresses of up to two functions; those that are NULL are left out. */
static PyObject *addresses(void *first, void *second) {
    void *found[] = {first, second};
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < 2; i++) {
        if (!found[i])
            continue;
        PyObject *number = PyLong_FromVoidPtr(found[i]);
        if (!number || PyList_Append(list, number) < 0)
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    return list;
}

/* c_functions(object) -> list of addresses; empty where there is no C function behind the object. */
PyObject *hr_c_functions(PyObject *module, PyObject *object) {
    (void)module;
    if (PyCFunction_Check(object))
        return addresses((void *)((PyCFunctionObject *)object)->m_ml->ml_meth, NULL);
    if (Py_IS_TYPE(object, &PyMethodDescr_Type) || Py_IS_TYPE(object, &PyClassMethodDescr_Type))
        return addresses((void *)((PyMethodDescrObject *)object)->d_method->ml_meth, NULL);
    if (Py_IS_TYPE(object, &PyGetSetDescr_Type)) {
        PyGetSetDef *definition = ((PyGetSetDescrObject *)object)->d_getset;
        return addresses((void *)definition->get, (void *)definition->set);
    }
    if (Py_IS_TYPE(object, &PyWrapperDescr_Type))
        return addresses(((PyWrapperDescrObject *)object)->d_wrapped, NULL);
    return PyList_New(0);
}

/* locate(address) -> (path, base, symbol, start, first bytes); the path is empty where no library is. */
PyObject *hr_locate(PyObject *module, PyObject *address) {
    (void)module;
    Dl_info info;
    memset(&info, 0, sizeof info);
    void *pointer = PyLong_AsVoidPtr(address);
    if (!pointer && PyErr_Occurred())
        return NULL;
    if (!dladdr(pointer, &info) || !info.dli_fname)
        return Py_BuildValue("sKsKy#", "", 0ULL, "", 0ULL, "", (Py_ssize_t)0);
    PyObject *path = PyUnicode_DecodeFSDefault(info.dli_fname);
    if (!path)
        return NULL;
    return Py_BuildValue("NKsKy#", path, (unsigned long long)(uintptr_t)info.dli_fbase,
                         info.dli_sname ? info.dli_sname : "", (unsigned long long)(uintptr_t)info.dli_saddr,
                         (const char *)pointer, (Py_ssize_t)ENTRY_LEN);
}
