/* tables.c: brings what Python made from a table of the base up to the table of the sources.
 *
 *   live table, in the base's data           process memory, for good           new table, in a generation's image
 *   {"area", area, METH_O, doc} ◀── stored ─── text of doc ◀──────── copied ─── {"area", area, METH_O, doc}
 *        ▲ read at every call                {"edge", edge, ...} ◀── copied ─── {"edge", edge, METH_O, doc}
 *   function objects of area                      ▲
 *                                            function objects of edge: new, put where those of area are
 *
 * Entries of one name are one entry: the live one gets the other's fields, and every object that was made of it calls
 * the new function, shows the new text. A name that is new gets an entry of its own, which stays for the life of the
 * process, and objects in each module and type that has the live table. Nothing points into the image but the closure
 * of a getter that does so in the source. Calling it with no new table takes all of that back.
 *
 * Who has a table: a module whose definition, or one of whose functions, names it; a type whose tp_methods, tp_getset
 * or tp_members it is, or whose own copy of the members it is (PyType_FromSpec makes one).
 *
 * Context: any thread with the GIL, which keeps calls from reading an entry while it is stored. Modules and types of
 * other interpreters are not seen. What can fail is done first: objects are made, then dictionaries filled, which are
 * put back if one of them refuses; then the stores.
 */
#include "state.h"

#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>

enum { METHODS = 1, GETSET = 2, MEMBERS = 3 };

union entry {
    const char *name; /* the first field of each */
    PyMethodDef method;
    PyGetSetDef getset;
    PyMemberDef member;
};

/* An entry that the base does not have. Never freed: objects point to it. */
struct extra {
    struct extra *next;
    union entry entry, fresh; /* as it is, and as it is to be */
    int is_wanted;
};

struct table {
    struct table *next;
    int kind;
    unsigned char *live;
    size_t length;
    unsigned char *original; /* its entries as the program has them, without what we store */
    unsigned char *stored;   /* its entries as we left them */
    struct extra *extras;
};

static struct table *tables;
static PyObject *texts; /* bytes of every text that an entry of ours, or a live one, points to */

/* Entries -------------------------------------------------------------------------------------------------------- */

static size_t entry_len(int kind) {
    return kind == METHODS ? sizeof(PyMethodDef) : kind == GETSET ? sizeof(PyGetSetDef) : sizeof(PyMemberDef);
}

static union entry read_entry(int kind, const unsigned char *rows, size_t index) {
    union entry entry;
    memset(&entry, 0, sizeof entry);
    memcpy(&entry, rows + index * entry_len(kind), entry_len(kind));
    return entry;
}

static void write_entry(int kind, unsigned char *rows, size_t index, const union entry *entry) {
    memcpy(rows + index * entry_len(kind), entry, entry_len(kind));
}

static const char **doc_of(int kind, union entry *entry) {
    if (kind == METHODS)
        return &entry->method.ml_doc;
    return kind == GETSET ? (const char **)&entry->getset.doc : (const char **)&entry->member.doc;
}

/* A copy that lives as long as the process; 0 with an exception set. */
static int keep_text(const char **text) {
    if (!*text)
        return 1;
    PyObject *bytes = PyBytes_FromString(*text);
    PyObject *kept = bytes ? PyDict_SetDefault(texts, bytes, bytes) : NULL;
    Py_XDECREF(bytes);
    if (!kept)
        return 0;
    *text = PyBytes_AS_STRING(kept);
    return 1;
}

static int is_same_text(const char *one, const char *other) {
    return one && other ? !strcmp(one, other) : one == other;
}

/* What a live entry is to say: of its fields those that the edit changed, by their bits in change. A text that is gone
 * stays. */
static int merge(int kind, union entry *entry, union entry fresh, int change) {
    if (kind == METHODS && change & 2)
        entry->method.ml_meth = fresh.method.ml_meth;
    if (kind == GETSET) {
        entry->getset.get = change & 2 ? fresh.getset.get : entry->getset.get;
        entry->getset.set = change & 4 ? fresh.getset.set : entry->getset.set;
        entry->getset.closure = change & 8 ? fresh.getset.closure : entry->getset.closure;
    }
    if (kind == MEMBERS) {
        entry->member.type = change & 2 ? fresh.member.type : entry->member.type;
        entry->member.offset = change & 4 ? fresh.member.offset : entry->member.offset;
        entry->member.flags = change & 8 ? fresh.member.flags : entry->member.flags;
    }
    if (!(change & 1) || !*doc_of(kind, &fresh))
        return 1;
    *doc_of(kind, entry) = *doc_of(kind, &fresh);
    return keep_text(doc_of(kind, entry));
}

static Py_ssize_t index_of(int kind, const unsigned char *rows, size_t length, const char *name) {
    for (size_t i = 0; i < length; i++)
        if (is_same_text(read_entry(kind, rows, i).name, name))
            return (Py_ssize_t)i;
    return -1;
}

static struct table *find_or_add(int kind, unsigned char *live, size_t length) {
    for (struct table *table = tables; table; table = table->next)
        if (table->live == live && table->kind == kind && table->length == length)
            return table;
    struct table *table = calloc(1, sizeof *table);
    size_t len = length * entry_len(kind);
    unsigned char *original = malloc(2 * len + 1);
    if (!table || !original) {
        free(table);
        free(original);
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(original, live, len);
    memcpy(original + len, live, len);
    *table = (struct table){.next = tables, .kind = kind, .live = live, .length = length, .original = original};
    table->stored = original + len;
    return tables = table;
}

/* What the program has put into the live table since we were there is the program's, whatever we had stored. A field
 * has a word of its own in each kind of entry. */
static void adopt(const struct table *table) {
    size_t len = table->length * entry_len(table->kind);
    for (size_t at = 0; at < len; at += sizeof(void *))
        if (memcmp(table->live + at, table->stored + at, sizeof(void *)))
            memcpy(table->original + at, table->live + at, sizeof(void *));
}

/* The entry of ours for a new name: the one that objects have already, unless they would call it in another way. */
static struct extra *find_or_add_extra(struct table *table, union entry fresh) {
    for (struct extra *extra = table->extras; extra; extra = extra->next)
        if (is_same_text(extra->entry.name, fresh.name) &&
            (table->kind != METHODS || extra->entry.method.ml_flags == fresh.method.ml_flags))
            return extra;
    struct extra *extra = calloc(1, sizeof *extra);
    if (!extra) {
        PyErr_NoMemory();
        return NULL;
    }
    if (!keep_text(&fresh.name) || !keep_text(doc_of(table->kind, &fresh))) {
        free(extra);
        return NULL;
    }
    extra->entry = fresh;
    extra->next = table->extras;
    return table->extras = extra;
}

/* Who has a table ------------------------------------------------------------------------------------------------ */

static int is_within(const struct table *table, const void *entry) {
    uintptr_t at = (uintptr_t)entry, start = (uintptr_t)table->live;
    return at >= start && at - start < table->length * entry_len(table->kind);
}

static int module_has(PyObject *module, const struct table *table) {
    PyModuleDef *definition = PyModule_GetDef(module);
    PyObject *value, *dict = PyModule_GetDict(module);
    Py_ssize_t at = 0;
    PyErr_Clear();
    if (definition && (unsigned char *)definition->m_methods == table->live)
        return 1;
    while (dict && PyDict_Next(dict, &at, NULL, &value))
        if (PyCFunction_Check(value) && PyCFunction_GET_SELF(value) == module &&
            is_within(table, ((PyCFunctionObject *)value)->m_ml))
            return 1;
    return 0;
}

/* PyType_FromSpec copies members: the same names at the same addresses, at the same places of an object. Our own stores
 * may have changed the rest. */
static int is_copy(const PyMemberDef *members, const struct table *table) {
    for (size_t i = 0; i < table->length; i++)
        if (members[i].name != read_entry(MEMBERS, table->original, i).name)
            return 0;
    const unsigned char *copy = (const unsigned char *)members;
    size_t len = table->length * sizeof *members;
    return !members[table->length].name && (!memcmp(copy, table->stored, len) || !memcmp(copy, table->live, len));
}

static int type_has(PyTypeObject *type, const struct table *table) {
    if (table->kind == METHODS)
        return (unsigned char *)type->tp_methods == table->live;
    if (table->kind == GETSET)
        return (unsigned char *)type->tp_getset == table->live;
    return (unsigned char *)type->tp_members == table->live;
}

static int type_has_copy(PyTypeObject *type, const struct table *table) {
    return type->tp_members && type->tp_flags & Py_TPFLAGS_HEAPTYPE && is_copy(type->tp_members, table);
}

/* Those of sys.modules by themselves: what gc.freeze() has set aside is in no list of the collector. */
static int add_modules(PyObject *holders) {
    PyObject *gc = PyImport_ImportModule("gc"), *module;
    PyObject *all = gc ? PyObject_CallMethod(gc, "get_objects", NULL) : NULL;
    int is_fine = all != NULL;
    for (Py_ssize_t at = 0; is_fine && PyDict_Next(PyImport_GetModuleDict(), &at, NULL, &module);)
        if (PyModule_Check(module))
            is_fine = PyList_Append(holders, module) == 0;
    for (Py_ssize_t i = 0; is_fine && i < PyList_GET_SIZE(all); i++)
        if (PyModule_Check(PyList_GET_ITEM(all, i)))
            is_fine = PyList_Append(holders, PyList_GET_ITEM(all, i)) == 0;
    Py_XDECREF(all);
    Py_XDECREF(gc);
    return is_fine;
}

/* Static types are not among the objects of the collector; every type that is ready is somebody's subclass. */
static int add_types(PyObject *holders) {
    PyObject *seen = PySet_New(NULL);
    int is_fine = seen && PyList_Append(holders, (PyObject *)&PyBaseObject_Type) == 0;
    for (Py_ssize_t i = 0; is_fine && i < PyList_GET_SIZE(holders); i++) {
        PyObject *more =
            PyObject_CallMethod((PyObject *)&PyType_Type, "__subclasses__", "O", PyList_GET_ITEM(holders, i));
        is_fine = more != NULL;
        for (Py_ssize_t k = 0; is_fine && k < PyList_GET_SIZE(more); k++) {
            PyObject *type = PyList_GET_ITEM(more, k);
            int is_known = PySet_Contains(seen, type);
            is_fine = is_known > 0 || (!is_known && !PySet_Add(seen, type) && !PyList_Append(holders, type));
        }
        Py_XDECREF(more);
    }
    Py_XDECREF(seen);
    return is_fine;
}

static int is_in(PyObject *list, const PyObject *object) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++)
        if (PyList_GET_ITEM(list, i) == object)
            return 1;
    return 0;
}

static int has(PyObject *holder, const struct table *table, int is_about_copies) {
    if (PyModule_Check(holder))
        return table->kind == METHODS && module_has(holder, table);
    if (!PyType_Check(holder))
        return 0;
    return is_about_copies ? type_has_copy((PyTypeObject *)holder, table) : type_has((PyTypeObject *)holder, table);
}

/* Of two tables of members that say the same, the copies cannot be told apart: the diff refuses such an edit, unless
 * one of them is that of a static type, which has no copies. */
static PyObject *find_owners(const struct table *table, PyObject *holders) {
    if (!PyList_GET_SIZE(holders) && !(add_types(holders) && add_modules(holders)))
        return NULL;
    PyObject *owners = PyList_New(0);
    for (int pass = 0; pass <= (table->kind == MEMBERS) && owners && !PyList_GET_SIZE(owners); pass++)
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(holders) && owners; i++) {
            PyObject *holder = PyList_GET_ITEM(holders, i);
            if (has(holder, table, pass) && !is_in(owners, holder) && PyList_Append(owners, holder))
                Py_CLEAR(owners);
        }
    return owners;
}

/* Names ---------------------------------------------------------------------------------------------------------- */

/* What an object was made from, so that ours are known; NULL: something else. */
static const void *entry_behind(PyObject *object) {
    const PyTypeObject *type = Py_TYPE(object);
    if (PyCFunction_Check(object))
        return ((PyCFunctionObject *)object)->m_ml;
    if (type == &PyMethodDescr_Type || type == &PyClassMethodDescr_Type)
        return ((PyMethodDescrObject *)object)->d_method;
    if (type == &PyGetSetDescr_Type)
        return ((PyGetSetDescrObject *)object)->d_getset;
    if (type == &PyMemberDescr_Type)
        return ((PyMemberDescrObject *)object)->d_member;
    if (type != &PyStaticMethod_Type)
        return NULL;
    PyObject *function = PyObject_GetAttrString(object, "__func__");
    const void *entry = function && PyCFunction_Check(function) ? ((PyCFunctionObject *)function)->m_ml : NULL;
    Py_XDECREF(function);
    PyErr_Clear();
    return entry;
}

static int is_ours(const struct table *table, const void *entry) {
    for (const struct extra *extra = table->extras; extra; extra = extra->next)
        if (entry == &extra->entry)
            return 1;
    return 0;
}

static PyObject *make_of_module(PyObject *module, PyMethodDef *method) {
    if (method->ml_flags & (METH_CLASS | METH_STATIC)) {
        PyErr_SetString(PyExc_ValueError, "module functions cannot set METH_CLASS or METH_STATIC");
        return NULL;
    }
    PyObject *name = PyModule_GetNameObject(module);
    PyObject *function = name ? PyCFunction_NewEx(method, module, name) : NULL;
    Py_XDECREF(name);
    return function;
}

/* As type_add_method, add_members and add_getset of CPython do it. */
static PyObject *make(PyObject *owner, int kind, union entry *entry) {
    PyTypeObject *type = (PyTypeObject *)owner;
    if (kind == METHODS && PyModule_Check(owner))
        return make_of_module(owner, &entry->method);
    if (kind == GETSET)
        return PyDescr_NewGetSet(type, &entry->getset);
    if (kind == MEMBERS)
        return PyDescr_NewMember(type, &entry->member);
    if (entry->method.ml_flags & METH_CLASS)
        return PyDescr_NewClassMethod(type, &entry->method);
    if (!(entry->method.ml_flags & METH_STATIC))
        return PyDescr_NewMethod(type, &entry->method);
    PyObject *function = PyCFunction_NewEx(&entry->method, owner, NULL);
    PyObject *made = function ? PyStaticMethod_New(function) : NULL;
    Py_XDECREF(function);
    return made;
}

/* One name in the dictionary of one owner: was and is are NULL where there is nothing. */
struct step {
    PyObject *owner, *name, *was, *is;
    int is_done;
};

struct plan {
    struct step *steps;
    size_t count, room;
    PyObject *clashes; /* names that somebody else has taken */
};

static PyObject *dict_of(PyObject *owner) {
    return PyModule_Check(owner) ? PyModule_GetDict(owner) : ((PyTypeObject *)owner)->tp_dict;
}

static PyObject *spell(PyObject *owner, int kind, PyObject *name) {
    const char *of = PyModule_Check(owner) ? PyModule_GetName(owner) : ((PyTypeObject *)owner)->tp_name;
    return of ? PyUnicode_FromFormat("%s.%U%s", of, name, kind == METHODS ? "()" : "") : NULL;
}

static int tell(PyObject *list, PyObject *owner, int kind, PyObject *name) {
    PyObject *text = spell(owner, kind, name);
    int is_fine = text && PyList_Append(list, text) == 0;
    Py_XDECREF(text);
    return is_fine;
}

static int plan_step(struct plan *plan, const struct table *table, PyObject *owner, struct extra *extra) {
    PyObject *name = PyUnicode_InternFromString(extra->entry.name), *made = NULL;
    PyObject *present = name ? PyDict_GetItemWithError(dict_of(owner), name) : NULL;
    const void *entry = present ? entry_behind(present) : NULL;
    int is_free = !present || is_ours(table, entry), is_fine = name && !PyErr_Occurred();
    int is_needed = extra->is_wanted ? entry != &extra->entry : entry == &extra->entry;
    for (size_t i = 0; i < plan->count; i++) /* another entry of ours takes the name over */
        if (plan->steps[i].owner == owner && plan->steps[i].name == name)
            is_needed = 0;
    if (is_fine && is_needed && !is_free)
        is_fine = tell(plan->clashes, owner, table->kind, name);
    else if (is_fine && is_needed) {
        Py_XINCREF(present);
        is_fine = !extra->is_wanted || (made = make(owner, table->kind, &extra->entry));
        if (is_fine) {
            Py_INCREF(owner);
            plan->steps[plan->count++] = (struct step){.owner = owner, .name = name, .was = present, .is = made};
            return 1;
        }
        Py_XDECREF(present);
    }
    Py_XDECREF(name);
    return is_fine;
}

static int make_plan(struct plan *plan, const struct table *table, PyObject *owners) {
    size_t extras = 0;
    for (struct extra *extra = table->extras; extra; extra = extra->next)
        extras++;
    plan->steps = calloc(extras * (size_t)PyList_GET_SIZE(owners) + 1, sizeof *plan->steps);
    plan->clashes = PyList_New(0);
    if (!plan->steps || !plan->clashes) {
        PyErr_NoMemory();
        return 0;
    }
    for (int wanted = 1; wanted >= 0; wanted--)
        for (Py_ssize_t i = 0; i < PyList_GET_SIZE(owners); i++)
            for (struct extra *extra = table->extras; extra; extra = extra->next)
                if (extra->is_wanted == wanted && !plan_step(plan, table, PyList_GET_ITEM(owners, i), extra))
                    return 0;
    return 1;
}

static void drop_plan(struct plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        Py_DECREF(plan->steps[i].owner);
        Py_DECREF(plan->steps[i].name);
        Py_XDECREF(plan->steps[i].was);
        Py_XDECREF(plan->steps[i].is);
    }
    free(plan->steps);
    Py_XDECREF(plan->clashes);
}

static int set_name(const struct step *step, PyObject *value) {
    PyObject *dict = dict_of(step->owner);
    int result = value ? PyDict_SetItem(dict, step->name, value) : PyDict_DelItem(dict, step->name);
    if (PyType_Check(step->owner))
        PyType_Modified((PyTypeObject *)step->owner);
    return result == 0;
}

/* All names, or none. One that somebody took while the objects were made is left alone. */
static int take_steps(struct plan *plan, int kind) {
    for (size_t i = 0; i < plan->count; i++) {
        struct step *step = &plan->steps[i];
        if (PyDict_GetItemWithError(dict_of(step->owner), step->name) != step->was) {
            if (PyErr_Occurred() || !tell(plan->clashes, step->owner, kind, step->name))
                goto undo;
            continue;
        }
        if (!set_name(step, step->is))
            goto undo;
        step->is_done = 1;
    }
    return 1;
undo:;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (size_t i = plan->count; i-- > 0;)
        if (plan->steps[i].is_done && !set_name(&plan->steps[i], plan->steps[i].was))
            PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    return 0;
}

/* Stores --------------------------------------------------------------------------------------------------------- */

/* The live table, the copies of it that types have, and entries of ours. */
static void store(const struct table *table, const unsigned char *rows, PyObject *owners) {
    size_t len = table->length * entry_len(table->kind);
    if (memcmp(table->live, rows, len))
        memcpy(table->live, rows, len);
    memcpy(table->stored, rows, len);
    for (Py_ssize_t i = 0; table->kind == MEMBERS && i < PyList_GET_SIZE(owners); i++) {
        PyTypeObject *type = (PyTypeObject *)PyList_GET_ITEM(owners, i);
        if ((unsigned char *)type->tp_members != table->live)
            memcpy(type->tp_members, rows, len);
        PyType_Modified(type); /* the interpreter remembers where a member is */
    }
    for (struct extra *extra = table->extras; extra; extra = extra->next)
        if (extra->is_wanted)
            extra->entry = extra->fresh;
}

/* What the live entries are to say; memory that the caller frees. */
static unsigned char *merged(const struct table *table, const unsigned char *fresh, size_t length,
                             const char *changes) {
    unsigned char *rows = malloc(table->length * entry_len(table->kind));
    if (!rows) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < table->length; i++) {
        union entry entry = read_entry(table->kind, table->original, i);
        Py_ssize_t at = index_of(table->kind, fresh, length, entry.name);
        if (at >= 0 && !merge(table->kind, &entry, read_entry(table->kind, fresh, (size_t)at), changes[i] - 'a')) {
            free(rows);
            return NULL;
        }
        write_entry(table->kind, rows, i, &entry);
    }
    return rows;
}

/* Marks the entries of ours that are to be there, with what they are to say, and makes those that have never been; 0
 * with an exception set. */
static int want(struct table *table, const unsigned char *fresh, size_t length) {
    for (struct extra *extra = table->extras; extra; extra = extra->next)
        extra->is_wanted = 0;
    for (size_t i = 0; i < length; i++) {
        union entry entry = read_entry(table->kind, fresh, i);
        if (!entry.name || index_of(table->kind, table->original, table->length, entry.name) >= 0)
            continue;
        struct extra *extra = find_or_add_extra(table, entry);
        if (!extra || !keep_text(doc_of(table->kind, &entry)))
            return 0;
        entry.name = extra->entry.name;
        extra->fresh = entry;
        extra->is_wanted = 1;
    }
    return 1;
}

static PyObject *report(const struct plan *plan, int kind, PyObject *owners) {
    PyObject *added = PyList_New(0), *gone = PyList_New(0);
    int is_fine = added && gone;
    for (size_t i = 0; is_fine && i < plan->count; i++) {
        const struct step *step = &plan->steps[i];
        if (step->is_done && !(step->is && step->was))
            is_fine = tell(step->is ? added : gone, step->owner, kind, step->name);
    }
    PyObject *result = is_fine ? Py_BuildValue("OOOn", added, gone, plan->clashes, PyList_GET_SIZE(owners)) : NULL;
    Py_XDECREF(added);
    Py_XDECREF(gone);
    return result;
}

/* show_table(kind, live, live length, new, new length, changes, holders) -> (added, taken away, names that others have,
 * owners)
 *
 * holders is a list that is empty at first: where it is needed, it gets every type and module of this interpreter,
 * which is the expensive part, and can be handed in again with the next table. new is the address of the table that is
 * to be shown; with length 0 it is that of the base. When it raises, modules, types and the live table are as they
 * were. */
PyObject *hr_show_table(PyObject *module, PyObject *arguments) {
    int kind;
    unsigned long long live, fresh;
    Py_ssize_t live_length, length;
    PyObject *holders;
    const char *changes;
    Py_ssize_t changes_length;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "iKnKns#O!:show_table", &kind, &live, &live_length, &fresh, &length, &changes,
                          &changes_length, &PyList_Type, &holders))
        return NULL;
    if (kind < METHODS || kind > MEMBERS || live_length < (kind == MEMBERS) || changes_length != live_length ||
        length < 0)
        return PyErr_Format(PyExc_ValueError, "no table of kind %d with %zd entries", kind, live_length);
    if (!texts && !(texts = PyDict_New()))
        return NULL;
    const unsigned char *rows = (const unsigned char *)(uintptr_t)fresh;
    struct table *table = find_or_add(kind, (unsigned char *)(uintptr_t)live, (size_t)live_length);
    if (table)
        adopt(table);
    unsigned char *wanted = table ? merged(table, rows, (size_t)length, changes) : NULL;
    struct plan plan = {.count = 0};
    PyObject *owners = NULL, *result = NULL;
    if (wanted && want(table, rows, (size_t)length)) {
        int is_about_names = table->extras != NULL || kind == MEMBERS;
        owners = is_about_names ? find_owners(table, holders) : PyList_New(0);
        if (owners && make_plan(&plan, table, owners)) {
            if (take_steps(&plan, kind)) {
                store(table, wanted, owners);
                result = report(&plan, kind, owners);
            }
        }
    }
    drop_plan(&plan);
    Py_XDECREF(owners);
    free(wanted);
    return result;
}
