/* state.h: hotreload._state, the part of hotreload that is written against the Python API.
 *
 *   module.c   the module; calls migration hooks with the GIL held, as any function of an extension is called
 *   shadow.c   shadow data: fields attached to live objects
 *   tables.c   new methods, getters and members on live modules and types
 *   callable.c the C functions behind a Python object, and where an address is
 *   functions.c   other definitions for Python functions, all at once
 *
 * The core in csrc/ knows nothing of Python and is called without the GIL; what is here is the opposite, and therefore
 * a library of its own. It imports nothing, so an extension that uses shadow data can use it without being patched.
 */
#ifndef HR_STATE_H
#define HR_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "hotreload.h"

/* The capsule of hotreload.h; prepares what shadow data needs. NULL with an exception set. */
PyObject *hr_shadow_open(void);
PyObject *hr_shadow_stats(PyObject *module, PyObject *unused);

PyObject *hr_show_table(PyObject *module, PyObject *arguments);
PyObject *hr_c_functions(PyObject *module, PyObject *object);
PyObject *hr_locate(PyObject *module, PyObject *address);
/* exchange() of the module; see functions.c. */
PyObject *hr_exchange(PyObject *module, PyObject *arguments);

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *Py_NewRef(PyObject *object) {
    Py_INCREF(object);
    return object;
}
#endif

#endif
