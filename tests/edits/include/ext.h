/* What the cases share: a module out of C functions from long to long. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* METHOD(f): the Python function that calls `long f(long)`. */
#define METHOD(f)                                                                                                      \
    static PyObject *py_##f(PyObject *self, PyObject *arg)                                                             \
    {                                                                                                                  \
        (void)self;                                                                                                    \
        return PyLong_FromLong(f(PyLong_AsLong(arg)));                                                                 \
    }
#define ENTRY(f) {#f, py_##f, METH_O, NULL}

#ifdef __cplusplus
extern "C" {
#endif
PyMODINIT_FUNC PyInit_ext(void);
#ifdef __cplusplus
}
#endif

/* MODULE(ENTRY(f), ...): the module `ext` with those functions. */
#define MODULE(...)                                                                                                    \
    static PyMethodDef methods[] = {__VA_ARGS__, {NULL, NULL, 0, NULL}};                                               \
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "ext", NULL, 0, methods, NULL, NULL, NULL, NULL};   \
    PyMODINIT_FUNC PyInit_ext(void)                                                                                    \
    {                                                                                                                  \
        return PyModule_Create(&definition);                                                                           \
    }
