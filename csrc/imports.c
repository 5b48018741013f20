/* imports.c: the symbols that the new code takes from the process, in the order in which the loader found the base's.
 *
 *   1. the global scope      the program, what it was linked with, what was preloaded, RTLD_GLOBAL
 *   2. the base's own scope  the base and its dependencies, breadth first
 *   3. new libraries         a DT_NEEDED that the base does not have, opened RTLD_LOCAL
 *
 * Not the base first: a preloaded malloc must win for the new code, as it did for the base. Everything is resolved
 * now, nothing at the first call: a symbol that is missing is a refusal and not a crash an hour later.
 *
 * Context: stage. The constructors of a new library run here, as with any dlopen.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

static enum hr_status open_libraries(const struct hr_patch *patch, struct hr_imports *imports, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.library_count; i++) {
        const char *name = patch->strings + patch->libraries[i].name;
        void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            const char *reason = dlerror();
            hr_refuse_call(error, HR_LIBRARY, "dlopen", 0);
            hr_error_name(error, name);
            hr_error_detail(error, reason ? reason : "");
            return HR_LIBRARY;
        }
        imports->libraries[imports->library_count++] = handle;
    }
    return HR_OK;
}

/* A symbol may truly have the address 0 (weak, absolute); for the new code that is the same as missing. */
static uintptr_t look_up(void *scope, const char *name, const char *version) {
    return (uintptr_t)(*version ? dlvsym(scope, name, version) : dlsym(scope, name));
}

static uintptr_t resolve(const struct hr_base *base, const struct hr_imports *imports, const char *name,
                         const char *version) {
    uintptr_t address = look_up(base->process, name, version);
    if (!address)
        address = look_up(base->handle, name, version);
    for (size_t i = 0; !address && i < imports->library_count; i++)
        address = look_up(imports->libraries[i], name, version);
    return address;
}

static enum hr_status resolve_all(const struct hr_patch *patch, const struct hr_base *base, struct hr_imports *imports,
                                  struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.import_count; i++) {
        const struct hr_link_import *import = &patch->imports[i];
        const char *name = patch->strings + import->name;
        const char *version = patch->strings + import->version;
        imports->addresses[i] = resolve(base, imports, name, version);
        if (!imports->addresses[i] && !(import->flags & HR_IMPORT_WEAK)) {
            hr_refuse(error, HR_SYMBOL);
            hr_error_name(error, name);
            hr_error_detail(error, version);
            return HR_SYMBOL;
        }
    }
    return HR_OK;
}

enum hr_status hr_imports_open(const struct hr_patch *patch, const struct hr_base *base, struct hr_imports *imports,
                               struct hr_error *error) {
    *imports = (struct hr_imports){0};
    /* One more than needed: calloc(0) may be NULL without being out of memory. */
    imports->addresses = calloc((size_t)patch->header.import_count + 1, sizeof *imports->addresses);
    imports->libraries = calloc((size_t)patch->header.library_count + 1, sizeof *imports->libraries);
    enum hr_status status = HR_OK;
    if (!imports->addresses || !imports->libraries)
        status = hr_refuse_call(error, HR_NO_MEMORY, "calloc", ENOMEM);
    if (!status)
        status = open_libraries(patch, imports, error);
    if (!status)
        status = resolve_all(patch, base, imports, error);
    if (status)
        hr_imports_close(imports, 0);
    return status;
}

void hr_imports_close(struct hr_imports *imports, int keep_libraries) {
    for (size_t i = imports->library_count; i > 0 && !keep_libraries; i--)
        dlclose(imports->libraries[i - 1]);
    free(imports->addresses);
    free(imports->libraries);
    *imports = (struct hr_imports){0};
}
