/* hotreload.h: for C code that says how it may be changed while the program runs.
 *
 * 1. HOTPATCHABLE marks a function.
 *
 *     #include "hotreload.h"
 *     HOTPATCHABLE static double blend(double a, double b) { ... }
 *
 * In an extension that is built by `hotreload cc` every function can be changed, marked or not: the mark then
 * only keeps the function whole (never inlined, cloned or seen through), so that a change to it is a change of
 * one function. Compiled in any other way the mark also gives the function its hook prologue, which
 * `hotreload.redirect(old, new)` can use:
 *
 *     -32 .. -1   padding that is never reached
 *     entry       lea 0x0(%rsp),%rsp     GCC's ms_hook_prologue: one instruction of 8 bytes that does nothing
 *     entry + 8   the function
 *
 * noipa matters as much as noinline: without it GCC keeps values in registers that the old body happened not to
 * touch, and the replacement may.
 *
 * 2. Migration hooks bring live state into the form that new code expects. They are written into the source that is
 * patched, any number of each, and run in the order of the source, once in each process and commit, with the GIL held:
 *
 *     HOTRELOAD_PRE_COMMIT(name) { ... return 0; }      before anything is redirected; may refuse
 *     HOTRELOAD_POST_COMMIT(name) { ... return 0; }     new calls enter the new code
 *     HOTRELOAD_POST_ROLLBACK(name) { ... return 0; }   the generation was left again
 *
 * 3. Shadow data attaches new fields to objects that live already (needs Python.h, included before this file):
 *
 *     long *hits = hotreload_shadow_get_object(self, ID, sizeof *hits);
 *
 * See docs/migration.md. The directory of this file is hotreload.get_include().
 */
#ifndef HOTRELOAD_H
#define HOTRELOAD_H

#include <stddef.h>

#if !defined(__x86_64__) || !defined(__linux__)
#define HOTPATCHABLE
#elif defined(__clang__)
#if defined(__HOTRELOAD__)
#define HOTPATCHABLE __attribute__((noinline, used))
#else
#define HOTPATCHABLE __attribute__((noinline, used, aligned(16), patchable_function_entry(24, 16)))
#endif
#elif defined(__HOTRELOAD__)
#define HOTPATCHABLE __attribute__((noinline, noclone, noipa))
#else
#define HOTPATCHABLE __attribute__((ms_hook_prologue, aligned(16), noinline, noclone, noipa))
#endif

/* Migration hooks ------------------------------------------------------------------------------------------------- */

/* What a hook is told. Later versions only add fields at the end: size says how much there is. */
struct hotreload_context {
    size_t size;
    const char *module;
    unsigned from, to; /* generations; 0 is the base as it was loaded */
    char message[256]; /* see hotreload_veto */
};

/* Why a pre-commit hook refuses, in one sentence; the result is what the hook is to return.
 *
 *     return hotreload_veto(ctx, "the queue is not empty");
 *
 * A hook may raise a Python exception instead, and return anything. */
static __inline__ int hotreload_veto(struct hotreload_context *ctx, const char *message) {
    size_t i = 0;
    for (; message[i] && i + 1 < sizeof ctx->message; i++)
        ctx->message[i] = message[i];
    ctx->message[i] = 0;
    return -1;
}

/* The context is `ctx`. A hook is static, and belongs into a source file: in a header it would be one of each file. Its
 * name needs to be unique in its file only. Nobody calls it but the server that takes the patch; in a build without
 * `hotreload cc` the compiler drops it. */
#if defined(__HOTRELOAD__)
#define HOTRELOAD_KEPT_ __attribute__((used, noinline))
#else
#define HOTRELOAD_KEPT_ __inline__ __attribute__((unused)) /* GCC drops it at -O0 too */
#endif
#ifdef __cplusplus
#define HOTRELOAD_LABEL_(function) __asm__(#function) /* not mangled */
#else
#define HOTRELOAD_LABEL_(function)
#endif
#define HOTRELOAD_HOOK_(function)                                                                                      \
    HOTRELOAD_KEPT_ static int function(struct hotreload_context *) HOTRELOAD_LABEL_(function);                        \
    static int function(struct hotreload_context *ctx __attribute__((unused)))

#define HOTRELOAD_PRE_COMMIT(name)    HOTRELOAD_HOOK_(hotreload_pre_commit_##name)
#define HOTRELOAD_POST_COMMIT(name)   HOTRELOAD_HOOK_(hotreload_post_commit_##name)
#define HOTRELOAD_POST_ROLLBACK(name) HOTRELOAD_HOOK_(hotreload_post_rollback_##name)

/* Shadow data ----------------------------------------------------------------------------------------------------- */

/* What hotreload._state offers; later versions only add functions at the end. */
struct hotreload_shadow_api {
    size_t size;
    void *(*get)(void *object, unsigned long id, size_t size);
    void *(*peek)(void *object, unsigned long id);
    void (*free)(void *object, unsigned long id);
    void *(*get_object)(void *object, unsigned long id, size_t size);
};

#define HOTRELOAD_SHADOW_MODULE  "hotreload._state"
#define HOTRELOAD_SHADOW_CAPSULE "hotreload._state.shadow"

#ifdef Py_PYTHON_H
/* All of these are called with the GIL held. The data is memory and nothing else: it must own no references. Choose ids
 * that nobody else chooses, such as 0x53484f500001; one object may have data under several. */

static __inline__ const struct hotreload_shadow_api *hotreload_shadow_api_(void) {
    static const struct hotreload_shadow_api *api;
    if (!api) {
        PyObject *module = PyImport_ImportModule(HOTRELOAD_SHADOW_MODULE);
        PyObject *capsule = module ? PyObject_GetAttrString(module, "shadow") : NULL;
        if (capsule)
            api = (const struct hotreload_shadow_api *)PyCapsule_GetPointer(capsule, HOTRELOAD_SHADOW_CAPSULE);
        Py_XDECREF(capsule);
        Py_XDECREF(module); /* stays loaded: it is never unloaded */
    }
    return api;
}

/* The data of an object under an id: size bytes of zero the first time, the same pointer from then on, aligned to 16.
 * It stays until hotreload_shadow_free. NULL with an exception set: memory ran out, or more was asked for than the first
 * time. */
static __inline__ void *hotreload_shadow_get(void *object, unsigned long id, size_t size) {
    const struct hotreload_shadow_api *api = hotreload_shadow_api_();
    return api ? api->get(object, id, size) : NULL;
}

/* The same, or NULL where nothing is attached; no exception. */
static __inline__ void *hotreload_shadow_peek(void *object, unsigned long id) {
    const struct hotreload_shadow_api *api = hotreload_shadow_api_();
    if (!api)
        PyErr_Clear();
    return api ? api->peek(object, id) : NULL;
}

/* Frees the data; nothing happens where there is none. */
static __inline__ void hotreload_shadow_free(void *object, unsigned long id) {
    const struct hotreload_shadow_api *api = hotreload_shadow_api_();
    if (!api)
        PyErr_Clear();
    else
        api->free(object, id);
}

/* hotreload_shadow_get for a Python object: the data is freed when the object's deallocation begins. NULL with a
 * TypeError where that moment cannot be learned safely, as for int, list and other types of the interpreter itself. */
static __inline__ void *hotreload_shadow_get_object(PyObject *object, unsigned long id, size_t size) {
    const struct hotreload_shadow_api *api = hotreload_shadow_api_();
    return api ? api->get_object(object, id, size) : NULL;
}
#endif

#endif
