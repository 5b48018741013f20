/* functions.c: other definitions for Python functions, several at once, in a moment in which no thread is inside.
 *
 *   exchange(functions, names, undo_names, inside, nested, objects)
 *
 *     every thread's frames ── one runs code of `inside`? ──▶ their numbers; nothing was changed
 *           │ none
 *           ▼
 *     functions among `objects`() with code of `nested`    found now: a closure may have been made a moment ago
 *     names of modules and classes, functions     all stores, one after the other
 *
 * The GIL is held from the first look to the last store and no bytecode runs in between, so no other thread does: what
 * they see is before all of it or after all of it. Three things could run Python code in the middle, and do not: the
 * cycle collector is off meanwhile, what is replaced is kept alive by the caller, and classes with a __setattr__ of
 * their own are kept out by the caller. The fourth can: an audit hook that is written in Python hears of each store.
 *
 * Context: any thread with the GIL.
 */
#include "state.h"

#include <frameobject.h> /* PyFrame_GetBack: Python.h has it from 3.11 on only */

enum { CODE, DEFAULTS, KWDEFAULTS, ANNOTATIONS, DOC, CLOSURE, FIELDS };

/* Who is inside ---------------------------------------------------------------------------------------------------- */

/* 1: a frame of the thread runs such code; 0: none does; -1: an exception is set. */
static int is_inside(PyThreadState *thread, PyObject *codes) {
    PyFrameObject *frame = PyThreadState_GetFrame(thread);
    int found = 0;
    while (frame && !found) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        found = PySet_Contains(codes, (PyObject *)code);
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    return found;
}

static PyObject *threads_inside(PyObject *codes) {
    PyObject *found = PyList_New(0);
    if (!found || !PySet_GET_SIZE(codes))
        return found;
    PyThreadState *thread = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; thread; thread = PyThreadState_Next(thread)) {
        int inside = is_inside(thread, codes);
        if (!inside)
            continue;
        PyObject *ident = inside > 0 ? PyLong_FromUnsignedLong(thread->thread_id) : NULL;
        int failed = !ident || PyList_Append(found, ident);
        Py_XDECREF(ident);
        if (failed) {
            Py_DECREF(found);
            return NULL;
        }
    }
    return found;
}

/* Stores ----------------------------------------------------------------------------------------------------------- */

/* One function gets the fields that are not Ellipsis. The closure first: its length must be the new code's. */
static int store_function(PyObject *function, PyObject *const *fields) {
    if (fields[CLOSURE] != Py_Ellipsis && PyFunction_SetClosure(function, fields[CLOSURE]))
        return -1;
    if (fields[CODE] != Py_Ellipsis && PyObject_SetAttrString(function, "__code__", fields[CODE]))
        return -1;
    if (fields[DEFAULTS] != Py_Ellipsis && PyFunction_SetDefaults(function, fields[DEFAULTS]))
        return -1;
    if (fields[KWDEFAULTS] != Py_Ellipsis && PyFunction_SetKwDefaults(function, fields[KWDEFAULTS]))
        return -1;
    if (fields[ANNOTATIONS] != Py_Ellipsis && PyFunction_SetAnnotations(function, fields[ANNOTATIONS]))
        return -1;
    return fields[DOC] != Py_Ellipsis ? PyObject_SetAttrString(function, "__doc__", fields[DOC]) : 0;
}

/* (function, code, defaults, kwdefaults, annotations, doc, closure), checked before anything is stored. */
static int is_order(PyObject *order) {
    if (!PyTuple_Check(order) || PyTuple_GET_SIZE(order) != 1 + FIELDS ||
        !PyFunction_Check(PyTuple_GET_ITEM(order, 0))) {
        PyErr_SetString(PyExc_TypeError, "an order is a tuple of a function and its six fields");
        return 0;
    }
    PyObject *code = PyTuple_GET_ITEM(order, 1 + CODE), *closure = PyTuple_GET_ITEM(order, 1 + CLOSURE);
    if (code == Py_Ellipsis && closure == Py_Ellipsis)
        return 1;
    if (!PyCode_Check(code)) {
        PyErr_SetString(PyExc_TypeError, "a function's code is a code object");
        return 0;
    }
    if (closure == Py_Ellipsis)
        closure = PyFunction_GET_CLOSURE(PyTuple_GET_ITEM(order, 0));
    Py_ssize_t cells = closure && closure != Py_None ? PyTuple_Size(closure) : 0;
    if (cells < 0 || cells != PyCode_GetNumFree((PyCodeObject *)code)) {
        PyErr_Format(PyExc_ValueError, "%U: the code has other free variables than the closure has cells",
                     ((PyCodeObject *)code)->co_name);
        return 0;
    }
    return 1;
}

/* (namespace or class, name, value), or without a value: the name is removed. */
static int store_name(PyObject *order) {
    PyObject *target, *name, *value = NULL;
    if (!PyArg_ParseTuple(order, "OO|O", &target, &name, &value))
        return -1;
    if (!PyDict_Check(target))
        return value ? PyObject_SetAttr(target, name, value) : PyObject_DelAttr(target, name);
    if (value)
        return PyDict_SetItem(target, name, value);
    return PyDict_Contains(target, name) == 1 ? PyDict_DelItem(target, name) : 0;
}

/* Live closures ---------------------------------------------------------------------------------------------------- */

/* The order for one closure; `change`: its code, the new one, the numbers of the cells that it keeps or None, the
 * docstring. */
static PyObject *order_for(PyObject *function, PyObject *change) {
    PyObject *was, *code, *kept, *doc, *closure, *old = PyFunction_GET_CLOSURE(function);
    if (!PyArg_ParseTuple(change, "OOOO", &was, &code, &kept, &doc))
        return NULL;
    if (kept == Py_None || !old) {
        closure = Py_NewRef(Py_Ellipsis);
    } else {
        closure = PyTuple_New(PyTuple_GET_SIZE(kept));
        for (Py_ssize_t i = 0; closure && i < PyTuple_GET_SIZE(kept); i++) {
            PyObject *cell = PyTuple_GetItem(old, PyLong_AsSsize_t(PyTuple_GET_ITEM(kept, i)));
            if (!cell)
                Py_CLEAR(closure);
            else
                PyTuple_SET_ITEM(closure, i, Py_NewRef(cell));
        }
    }
    if (!closure)
        return NULL;
    PyObject *dots = Py_Ellipsis, *order = PyTuple_Pack(1 + FIELDS, function, code, dots, dots, dots, doc, closure);
    Py_DECREF(closure);
    return order;
}

/* An order for each function whose code is the first of a tuple of `nested`: that very object, not one that is equal.
 */
static int add_closures(PyObject *nested, PyObject *objects, PyObject *orders) {
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(nested); at++) {
        PyObject *change = PyList_GET_ITEM(nested, at);
        if (!PyTuple_Check(change) || PyTuple_GET_SIZE(change) != 4) {
            PyErr_SetString(PyExc_TypeError, "a change of closures is a tuple of four");
            return -1;
        }
    }
    PyObject *all = PyObject_CallObject(objects, NULL);
    if (!all)
        return -1;
    int failed = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all) && !failed; i++) {
        PyObject *function = PyList_GET_ITEM(all, i);
        if (!PyFunction_Check(function))
            continue;
        for (Py_ssize_t at = 0; at < PyList_GET_SIZE(nested); at++) {
            PyObject *change = PyList_GET_ITEM(nested, at);
            if (PyTuple_GET_ITEM(change, 0) != PyFunction_GET_CODE(function))
                continue;
            PyObject *order = order_for(function, change);
            failed = !order || PyList_Append(orders, order);
            Py_XDECREF(order);
            break;
        }
    }
    Py_DECREF(all);
    return failed ? -1 : 0;
}

/* What a function has now, as an order that brings it back. */
static PyObject *order_back(PyObject *order) {
    PyFunctionObject *function = (PyFunctionObject *)PyTuple_GET_ITEM(order, 0);
    PyObject *now[FIELDS] = {function->func_code,        function->func_defaults, function->func_kwdefaults,
                             function->func_annotations, function->func_doc,      function->func_closure};
    PyObject *back = PyTuple_New(1 + FIELDS);
    if (!back)
        return NULL;
    PyTuple_SET_ITEM(back, 0, Py_NewRef((PyObject *)function));
    for (int i = 0; i < FIELDS; i++) {
        int stays =
            PyTuple_GET_ITEM(order, 1 + i) == Py_Ellipsis || (i == ANNOTATIONS && now[i] && !PyDict_Check(now[i]));
        PyTuple_SET_ITEM(back, 1 + i, Py_NewRef(stays ? Py_Ellipsis : now[i] ? now[i] : Py_None));
    }
    return back;
}

static PyObject *orders_back(PyObject *orders) {
    PyObject *undo = PyList_New(0);
    for (Py_ssize_t i = 0; undo && i < PyList_GET_SIZE(orders); i++) {
        PyObject *order = PyList_GET_ITEM(orders, i), *back = is_order(order) ? order_back(order) : NULL;
        if (!back || PyList_Append(undo, back))
            Py_CLEAR(undo);
        Py_XDECREF(back);
    }
    return undo;
}

static int store_all(PyObject *orders, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *order = PyList_GET_ITEM(orders, i), *fields[FIELDS];
        for (int n = 0; n < FIELDS; n++)
            fields[n] = PyTuple_GET_ITEM(order, 1 + n);
        if (store_function(PyTuple_GET_ITEM(order, 0), fields))
            return -1;
    }
    return 0;
}

/* The stores; when one fails, those that were done are undone, and the exception says so. */
static PyObject *store(PyObject *orders, PyObject *names, PyObject *undo_names) {
    PyObject *undo = orders_back(orders);
    if (!undo)
        return NULL;
    Py_ssize_t named = 0;
    int failed = 0;
    for (; named < PyList_GET_SIZE(names) && !failed; named++)
        failed = store_name(PyList_GET_ITEM(names, named)) != 0;
    failed = failed || store_all(orders, PyList_GET_SIZE(orders));
    if (!failed)
        return undo;
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    int is_undone = store_all(undo, PyList_GET_SIZE(undo)) == 0;
    for (Py_ssize_t i = 0; i < named && i < PyList_GET_SIZE(undo_names); i++)
        is_undone = store_name(PyList_GET_ITEM(undo_names, i)) == 0 && is_undone;
    Py_DECREF(undo);
    if (is_undone) {
        PyErr_Restore(kind, value, trace);
        return NULL;
    }
    PyErr_Clear();
    PyErr_Format(PyExc_SystemError, "a function could not be given its new code, nor another its old one back: %S",
                 value);
    Py_XDECREF(kind);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return NULL;
}

/* The cycle collector --------------------------------------------------------------------------------------------- */

#if PY_VERSION_HEX >= 0x030a0000
static int stop_collecting(void) {
    return PyGC_Disable();
}

static void go_on_collecting(void) {
    PyGC_Enable();
}
#else
static PyObject *ask_collector(const char *what) {
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *answer = gc ? PyObject_CallMethod(gc, what, NULL) : NULL;
    Py_XDECREF(gc);
    return answer;
}

/* Whether it was on; -1 with an exception set. */
static int stop_collecting(void) {
    PyObject *was_on = ask_collector("isenabled");
    PyObject *done = was_on ? ask_collector("disable") : NULL;
    int collects = done ? PyObject_IsTrue(was_on) : -1;
    Py_XDECREF(was_on);
    Py_XDECREF(done);
    return collects;
}

/* An exception that is set stays so. */
static void go_on_collecting(void) {
    PyObject *kind, *value, *trace;
    PyErr_Fetch(&kind, &value, &trace);
    Py_XDECREF(ask_collector("enable"));
    PyErr_Restore(kind, value, trace);
}
#endif

PyObject *hr_exchange(PyObject *module, PyObject *arguments) {
    PyObject *functions, *names, *undo_names, *inside, *nested, *objects;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!O!O!O!O!O:exchange", &PyList_Type, &functions, &PyList_Type, &names,
                          &PyList_Type, &undo_names, &PySet_Type, &inside, &PyList_Type, &nested, &objects))
        return NULL;
    PyObject *orders = PyList_GetSlice(functions, 0, PyList_GET_SIZE(functions));
    if (!orders)
        return NULL;
    int collects = stop_collecting();
    if (collects < 0) {
        Py_DECREF(orders);
        return NULL;
    }
    PyObject *undo = NULL, *found = threads_inside(inside);
    if (found && !PyList_GET_SIZE(found))
        if (!PyList_GET_SIZE(nested) || !add_closures(nested, objects, orders))
            undo = store(orders, names, undo_names);
    int failed = !found || (!undo && PyErr_Occurred());
    if (collects)
        go_on_collecting();
    PyObject *result = failed ? NULL : Py_BuildValue("OO", found, undo ? undo : Py_None);
    Py_DECREF(orders);
    Py_XDECREF(found);
    Py_XDECREF(undo);
    return result;
}
