/* module.c: hotreload._state. */
#include "state.h"

typedef int hook_function(struct hotreload_context *);

/* call_hook(address, module, from, to) -> (result, message)
 *
 * The hook runs in this thread, with the GIL held: no Python code runs beside it unless the hook itself lets it. What
 * it raises is raised here. */
static PyObject *call_hook(PyObject *module, PyObject *arguments) {
    struct hotreload_context ctx = {.size = sizeof ctx};
    unsigned long long address;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "KsII:call_hook", &address, &ctx.module, &ctx.from, &ctx.to))
        return NULL;
    int result = ((hook_function *)(uintptr_t)address)(&ctx);
    if (PyErr_Occurred())
        return NULL;
    ctx.message[sizeof ctx.message - 1] = 0;
    PyObject *message = PyUnicode_DecodeUTF8(ctx.message, (Py_ssize_t)strlen(ctx.message), "backslashreplace");
    return message ? Py_BuildValue("iN", result, message) : NULL;
}

static PyMethodDef methods[] = {
    {"call_hook", call_hook, METH_VARARGS, "call_hook(address, module, from, to) -> (result, message)"},
    {"shadow_stats", hr_shadow_stats, METH_NOARGS, "shadow_stats() -> (objects, fields, bytes, hooked types)"},
    {"show_table", hr_show_table, METH_VARARGS,
     "show_table(kind, live, live_length, new, new_length, changes, holders) -> (added, taken away, names taken, "
     "owners)"},
    {"c_functions", hr_c_functions, METH_O, "c_functions(object) -> addresses of the C functions behind it"},
    {"locate", hr_locate, METH_O, "locate(address) -> (path, base, symbol, start, the eight bytes there)"},
    {"exchange", hr_exchange, METH_VARARGS,
     "exchange(functions, names, undo_names, inside, nested, objects) -> (threads inside, orders back or None)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hotreload._state",
    .m_doc = "Migration hooks, shadow data and tables; see hotreload.h.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__state(void);

PyMODINIT_FUNC PyInit__state(void) {
    PyObject *module = PyModule_Create(&definition);
    PyObject *capsule = module ? hr_shadow_open() : NULL;
    if (!capsule || PyModule_AddObject(module, "shadow", capsule) < 0) {
        Py_XDECREF(capsule);
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
