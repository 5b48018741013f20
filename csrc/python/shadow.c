/* shadow.c: fields attached to live objects, without a change of their layout.
 *
 *   object's address ──hash──▶ owner ─▶ field (id 7, 16 bytes) ─▶ field (id 9, 200 bytes)
 *   weakref's address ─hash──▶ the same owner, where the object has a weakref of ours
 *
 * Storage belongs to the process, not to a generation: it stays through commits, rollbacks and retired generations.
 *
 * An address is given to another object as soon as its object is gone, so the data of a Python object must go first:
 *
 *   it can have weakrefs     a weakref of ours, whose callback frees the data
 *   else                     tp_dealloc of the type that its deallocation will reach is replaced by a hook, which frees
 *                            the data and calls the original
 *
 * subtype_dealloc, which every class that is written in Python has, finds the deallocator of its base by comparing
 * tp_dealloc with itself: in such a class a hook would be called by subtype_dealloc, again and again. So it is the
 * first base with another one that is hooked. Each hooked type has a hook of its own (SLOTS), which knows its original
 * without asking the object: two types of one family may both be hooked, and one may call the other's.
 *
 * Types of the interpreter itself are not hooked: it deallocates some of them without asking the type. An object of
 * such a type that cannot have weakrefs is refused.
 *
 * Deep chains. A deallocator with Py_TRASHCAN_BEGIN unwinds nested objects without recursion, but only where it is the
 * type's tp_dealloc, which it is no more. So the hook does it: beyond DEPTH_MAX nested calls objects wait until the
 * outermost is done.
 *
 * Context: any thread with the GIL, which is the lock of all this; between entry and exit of a function here no Python
 * code runs, except where it says so.
 */
#define _GNU_SOURCE 1
#include "state.h"

#include <dlfcn.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>

enum { BUCKETS_MIN = 256, DEPTH_MAX = 40 };

struct field {
    struct field *next;
    unsigned long id;
    size_t size;
    alignas(16) unsigned char data[];
};

struct owner {
    struct owner *next, *next_by_reference;
    void *object;
    PyObject *reference; /* ours; NULL: none */
    int is_tied;         /* its end will be told, by the reference or by a hook */
    struct field *fields;
};

static struct {
    struct owner **by_object, **by_reference; /* bucket_count each */
    size_t bucket_count, owner_count, field_count, bytes;
    PyObject *callback;         /* of all weakrefs */
    destructor subtype_dealloc; /* what classes written in Python have */
    const void *interpreter;    /* where its library, or the program that it is part of, begins */
} shadow;

/* Owners --------------------------------------------------------------------------------------------------------- */

static size_t bucket_of(const void *address, size_t count) {
    uint64_t mixed = ((uint64_t)(uintptr_t)address >> 4) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(mixed >> 32) & (count - 1);
}

static struct owner *find(const void *object) {
    struct owner *owner = shadow.bucket_count ? shadow.by_object[bucket_of(object, shadow.bucket_count)] : NULL;
    while (owner && owner->object != object)
        owner = owner->next;
    return owner;
}

static struct owner *find_by_reference(const PyObject *reference) {
    struct owner *owner = shadow.bucket_count ? shadow.by_reference[bucket_of(reference, shadow.bucket_count)] : NULL;
    while (owner && owner->reference != reference)
        owner = owner->next_by_reference;
    return owner;
}

static void link_reference(struct owner *owner) {
    struct owner **bucket = &shadow.by_reference[bucket_of(owner->reference, shadow.bucket_count)];
    owner->next_by_reference = *bucket;
    *bucket = owner;
}

static int grow(void) {
    size_t count = shadow.bucket_count ? 2 * shadow.bucket_count : BUCKETS_MIN;
    struct owner **by_object = calloc(count, sizeof *by_object), **by_reference = calloc(count, sizeof *by_reference);
    if (!by_object || !by_reference) {
        free(by_object);
        free(by_reference);
        return 0;
    }
    struct owner **old = shadow.by_object;
    size_t old_count = shadow.bucket_count;
    free(shadow.by_reference);
    shadow.by_object = by_object;
    shadow.by_reference = by_reference;
    shadow.bucket_count = count;
    for (size_t i = 0; i < old_count; i++) {
        for (struct owner *owner = old[i], *next; owner; owner = next) {
            next = owner->next;
            struct owner **bucket = &by_object[bucket_of(owner->object, count)];
            owner->next = *bucket;
            *bucket = owner;
            if (owner->reference)
                link_reference(owner);
        }
    }
    free(old);
    return 1;
}

static struct owner *find_or_add(void *object) {
    struct owner *owner = find(object);
    if (owner)
        return owner;
    if (shadow.owner_count >= shadow.bucket_count && !grow())
        return NULL;
    owner = calloc(1, sizeof *owner);
    if (!owner)
        return NULL;
    struct owner **bucket = &shadow.by_object[bucket_of(object, shadow.bucket_count)];
    owner->object = object;
    owner->next = *bucket;
    *bucket = owner;
    shadow.owner_count++;
    return owner;
}

static void unlink_owner(struct owner *owner) {
    struct owner **at = &shadow.by_object[bucket_of(owner->object, shadow.bucket_count)];
    while (*at != owner)
        at = &(*at)->next;
    *at = owner->next;
    if (owner->reference) {
        at = &shadow.by_reference[bucket_of(owner->reference, shadow.bucket_count)];
        while (*at != owner)
            at = &(*at)->next_by_reference;
        *at = owner->next_by_reference;
    }
    shadow.owner_count--;
}

static void drop_field(struct field **at) {
    struct field *field = *at;
    *at = field->next;
    shadow.field_count--;
    shadow.bytes -= field->size;
    free(field);
}

/* The owner is forgotten first, so that whatever runs when the weakref goes finds nothing half done. */
static void drop_owner(struct owner *owner) {
    PyObject *reference = owner->reference;
    unlink_owner(owner);
    while (owner->fields)
        drop_field(&owner->fields);
    free(owner);
    Py_XDECREF(reference);
}

/* The end of a Python object ------------------------------------------------------------------------------------- */

static PyObject *reference_is_dead(PyObject *module, PyObject *reference) {
    struct owner *owner = find_by_reference(reference);
    (void)module;
    if (owner)
        drop_owner(owner);
    Py_RETURN_NONE;
}

static PyMethodDef callback_definition = {"shadow_data_ends", reference_is_dead, METH_O, NULL};

static __thread struct {
    unsigned depth;
    size_t count, room;
    struct waiting {
        PyObject *object;
        destructor original;
    } *waiting;
} chain;

/* Puts an object without references aside; 0: no memory, so it must be deallocated here and now. */
static int defer(PyObject *object, destructor original) {
    if (chain.count == chain.room) {
        size_t room = chain.room ? 2 * chain.room : 64;
        struct waiting *more = realloc(chain.waiting, room * sizeof *more);
        if (!more)
            return 0;
        chain.waiting = more;
        chain.room = room;
    }
    PyObject_GC_UnTrack(object);
    chain.waiting[chain.count++] = (struct waiting){object, original};
    return 1;
}

/* hook: which of ours was called; original: what the type had. Where hook is not what the object's own type has, it was
 * called by the deallocator of a derived type, which goes on afterwards: then nothing may wait. */
static void deallocate(PyObject *object, destructor hook, destructor original) {
    struct owner *owner = find(object);
    if (owner)
        drop_owner(owner);
    int may_wait = Py_TYPE(object)->tp_dealloc == hook && PyObject_IS_GC(object);
    if (chain.depth >= DEPTH_MAX && may_wait && defer(object, original))
        return;
    chain.depth++;
    original(object);
    while (chain.depth == 1 && chain.count) {
        struct waiting next = chain.waiting[--chain.count];
        next.original(next.object);
    }
    chain.depth--;
    if (!chain.depth && chain.waiting) {
        free(chain.waiting);
        chain.waiting = NULL;
        chain.room = 0;
    }
}

/* Hooked types, each with a function of its own. A slot is used once: who has read a type's tp_dealloc may call it for
 * as long as the process lives. */
#define SLOTS_8(X, a) X(a##0) X(a##1) X(a##2) X(a##3) X(a##4) X(a##5) X(a##6) X(a##7)
#define SLOTS(X)                                                                                                       \
    SLOTS_8(X, 0) SLOTS_8(X, 1) SLOTS_8(X, 2) SLOTS_8(X, 3) SLOTS_8(X, 4) SLOTS_8(X, 5) SLOTS_8(X, 6) SLOTS_8(X, 7)

enum {
#define X(slot) SLOT_##slot,
    SLOTS(X)
#undef X
        SLOT_COUNT
};

static struct {
    PyTypeObject *type; /* kept alive: another type at its address would be taken for it */
    destructor original;
} hooked[SLOT_COUNT];

static size_t hooked_count;

#define X(slot)                                                                                                        \
    static void dealloc_##slot(PyObject *object) {                                                                     \
        deallocate(object, dealloc_##slot, hooked[SLOT_##slot].original);                                              \
    }
SLOTS(X)
#undef X

static const destructor dealloc_of_slot[SLOT_COUNT] = {
#define X(slot) dealloc_##slot,
    SLOTS(X)
#undef X
};

static int is_of_interpreter(destructor function) {
    Dl_info info;
    return !dladdr((const void *)(uintptr_t)function, &info) || info.dli_fbase == shadow.interpreter;
}

/* The type whose tp_dealloc the deallocation of an object reaches first, that of Python classes aside. */
static PyTypeObject *type_to_hook(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    while (type && type->tp_dealloc == shadow.subtype_dealloc)
        type = type->tp_base;
    return type;
}

static int hook_type(PyObject *object) {
    PyTypeObject *type = type_to_hook(object);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        if (type && type->tp_dealloc == dealloc_of_slot[i])
            return 1;
    if (!type || is_of_interpreter(type->tp_dealloc)) {
        PyErr_Format(PyExc_TypeError,
                     "no shadow data for %.200s objects: they cannot have weak references, and the interpreter itself "
                     "deallocates them",
                     Py_TYPE(object)->tp_name);
        return 0;
    }
    if (hooked_count == SLOT_COUNT) {
        PyErr_Format(PyExc_TypeError,
                     "no shadow data for %.200s objects: %d types have a hook already, and no more can",
                     Py_TYPE(object)->tp_name, (int)SLOT_COUNT);
        return 0;
    }
    Py_INCREF(type);
    hooked[hooked_count].type = type;
    hooked[hooked_count].original = type->tp_dealloc;
    type->tp_dealloc = dealloc_of_slot[hooked_count];
    hooked_count++;
    return 1;
}

/* Sees to it that an object's end is told. Making a weakref may run Python code: the collector's. */
static int tie(PyObject *object) {
    struct owner *owner = find(object);
    if (owner && owner->is_tied)
        return 1;
    PyObject *reference = NULL;
    if (PyType_SUPPORTS_WEAKREFS(Py_TYPE(object))) {
        reference = PyWeakref_NewRef(object, shadow.callback);
        if (!reference)
            return 0;
    } else if (!hook_type(object)) {
        return 0;
    }
    owner = find_or_add(object);
    if (!owner || owner->is_tied) {
        Py_XDECREF(reference);
        if (!owner)
            PyErr_NoMemory();
        return owner != NULL;
    }
    owner->is_tied = 1;
    owner->reference = reference;
    if (reference)
        link_reference(owner);
    return 1;
}

/* What hotreload.h offers ---------------------------------------------------------------------------------------- */

static struct field **find_field(struct owner *owner, unsigned long id) {
    struct field **at = &owner->fields;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    return at;
}

static void *peek(void *object, unsigned long id) {
    struct owner *owner = find(object);
    struct field *field = owner ? *find_field(owner, id) : NULL;
    return field ? field->data : NULL;
}

static void *get(void *object, unsigned long id, size_t size) {
    struct owner *owner = find_or_add(object);
    struct field *field = owner ? *find_field(owner, id) : NULL;
    if (field && size > field->size) {
        PyErr_Format(PyExc_ValueError, "shadow data %lu has %zu bytes, %zu were asked for", id, field->size, size);
        return NULL;
    }
    if (!field && owner && size <= SIZE_MAX - sizeof *field) {
        field = calloc(1, sizeof *field + size);
        if (field) {
            *field = (struct field){.next = owner->fields, .id = id, .size = size};
            owner->fields = field;
            shadow.field_count++;
            shadow.bytes += size;
        }
    }
    if (!field) {
        if (owner && !owner->fields && !owner->is_tied)
            drop_owner(owner);
        PyErr_NoMemory();
        return NULL;
    }
    return field->data;
}

static void *get_object(void *object, unsigned long id, size_t size) {
    return tie(object) ? get(object, id, size) : NULL;
}

/* What is tied stays tied, so that data that comes again needs no second weakref. */
static void free_field(void *object, unsigned long id) {
    struct owner *owner = find(object);
    if (!owner)
        return;
    struct field **at = find_field(owner, id);
    if (*at)
        drop_field(at);
    if (!owner->fields && !owner->is_tied)
        drop_owner(owner);
}

static const struct hotreload_shadow_api api = {
    .size = sizeof api,
    .get = get,
    .peek = peek,
    .free = free_field,
    .get_object = get_object,
};

PyObject *hr_shadow_stats(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return Py_BuildValue("nnnn", (Py_ssize_t)shadow.owner_count, (Py_ssize_t)shadow.field_count,
                         (Py_ssize_t)shadow.bytes, (Py_ssize_t)hooked_count);
}

/* A class as Python code makes them, for its tp_dealloc. */
static int learn_subtype_dealloc(void) {
    PyObject *type = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "hotreload._state.probe");
    if (!type)
        return 0;
    shadow.subtype_dealloc = ((PyTypeObject *)type)->tp_dealloc;
    Py_DECREF(type);
    return 1;
}

PyObject *hr_shadow_open(void) {
    Dl_info info;
    if (!shadow.callback && !(shadow.callback = PyCFunction_New(&callback_definition, NULL)))
        return NULL;
    if (!learn_subtype_dealloc())
        return NULL;
    if (!dladdr((const void *)(uintptr_t)PyBaseObject_Type.tp_dealloc, &info)) {
        PyErr_SetString(PyExc_ImportError, "where the interpreter is mapped cannot be found out");
        return NULL;
    }
    shadow.interpreter = info.dli_fbase;
    return PyCapsule_New((void *)(uintptr_t)&api, HOTRELOAD_SHADOW_CAPSULE, NULL);
}
