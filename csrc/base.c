/* base.c: the libraries of this process, seen as the dynamic loader sees them, and the one that is patched.
 *
 *   dl_iterate_phdr  ->  path, load bias, program headers (in memory, so a file replaced on disk does not matter)
 *      PT_LOAD       ->  extent, which parts are text
 *      PT_NOTE       ->  build-id; the slots, in a note that the hot link adds
 *      PT_TLS        ->  module number and the calling thread's block
 *      PT_DYNAMIC    ->  DF_STATIC_TLS: the block lies at the same offset from the thread pointer in every thread
 *
 * Context: stage. The list is collected first and looked at afterwards: inside the callback the loader's lock is held.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HR_NOTE_SLOTS = 1 };

struct collection {
    struct hr_objects *objects;
    size_t room;
    int is_out_of_memory;
};

static int is_inside(const struct hr_object *object, uintptr_t start, uint64_t len) {
    return start >= object->start && start <= object->end && len <= object->end - start;
}

struct note {
    uint32_t type;
    const char *name;
    uint32_t name_len; /* its NUL included */
    uintptr_t desc;
    uint32_t desc_len;
};

static int is_note(const struct note *note, uint32_t type, const char *name) {
    return note->type == type && note->name_len == strlen(name) + 1 && !strcmp(note->name, name);
}

/* { i64 distance from here to the slots, u64 bytes of them } */
static void read_slots(struct hr_object *object, uintptr_t desc) {
    int64_t distance;
    uint64_t len;
    memcpy(&distance, (const void *)desc, sizeof distance);
    memcpy(&len, (const char *)desc + sizeof distance, sizeof len);
    uintptr_t slots = desc + (uintptr_t)distance;
    if (slots % HR_PAGE || !len || len % HR_PAGE || !is_inside(object, slots, len))
        return;
    object->slots = slots;
    object->slots_len = len;
}

static void read_note(struct hr_object *object, const struct note *note) {
    if (is_note(note, NT_GNU_BUILD_ID, "GNU") && !object->build_id_len && note->desc_len > 0 &&
        note->desc_len <= sizeof object->build_id) {
        memcpy(object->build_id, (const void *)note->desc, note->desc_len);
        object->build_id_len = note->desc_len;
    } else if (is_note(note, HR_NOTE_SLOTS, "hotreload") && note->desc_len == 16) {
        read_slots(object, note->desc);
    }
}

/* A note is { u32 name_len, u32 desc_len, u32 type, name, desc }, name and desc padded to the segment's alignment. */
static void read_notes(struct hr_object *object, uintptr_t at, uint64_t len, uint64_t align) {
    uint64_t pad = align == 8 ? 7 : 3;
    if (!is_inside(object, at, len))
        return;
    while (len >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) header;
        memcpy(&header, (const void *)at, sizeof header);
        uint64_t desc = (sizeof header + header.n_namesz + pad) & ~pad;
        uint64_t next = (desc + header.n_descsz + pad) & ~pad;
        if (desc + header.n_descsz > len)
            return;
        const char *name = (const char *)at + sizeof header;
        if (header.n_namesz && !name[header.n_namesz - 1]) {
            struct note note = {header.n_type, name, header.n_namesz, at + desc, header.n_descsz};
            read_note(object, &note);
        }
        if (next > len)
            return;
        at += next;
        len -= next;
    }
}

static int has_static_tls_flag(const struct hr_object *object, uintptr_t at, uint64_t len) {
    if (!is_inside(object, at, len))
        return 0;
    for (const ElfW(Dyn) *dynamic = (const ElfW(Dyn) *)at; len >= sizeof *dynamic && dynamic->d_tag != DT_NULL;
         dynamic++, len -= sizeof *dynamic) {
        if (dynamic->d_tag == DT_FLAGS)
            return (dynamic->d_un.d_val & DF_STATIC_TLS) != 0;
    }
    return 0;
}

static void read_extent(struct hr_object *object, const struct dl_phdr_info *info) {
    object->start = UINTPTR_MAX;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD)
            continue;
        uintptr_t start = info->dlpi_addr + hr_page_down(header->p_vaddr);
        uintptr_t end = info->dlpi_addr + hr_page_up(header->p_vaddr + header->p_memsz);
        object->start = start < object->start ? start : object->start;
        object->end = end > object->end ? end : object->end;
    }
    if (object->start > object->end)
        object->start = object->end;
}

static void read_headers(struct hr_object *object, const struct dl_phdr_info *info) {
    object->bias = info->dlpi_addr;
    object->tls_module = info->dlpi_tls_modid;
    object->tls_block = (uintptr_t)info->dlpi_tls_data;
    /* The first module is the program itself, whose block is always static. */
    object->is_static_tls = info->dlpi_tls_modid == 1;
    read_extent(object, info);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t at = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_NOTE)
            read_notes(object, at, header->p_memsz, header->p_align);
        else if (header->p_type == PT_TLS)
            object->tls_len = header->p_memsz;
        else if (header->p_type == PT_DYNAMIC && has_static_tls_flag(object, at, header->p_memsz))
            object->is_static_tls = 1;
    }
}

static int collect(struct dl_phdr_info *info, size_t size, void *context) {
    struct collection *collection = context;
    struct hr_objects *objects = collection->objects;
    (void)size;
    if (objects->count == collection->room) {
        size_t room = collection->room ? 2 * collection->room : 64;
        struct hr_object *items = reallocarray(objects->items, room, sizeof *items);
        if (!items)
            return collection->is_out_of_memory = 1;
        objects->items = items;
        collection->room = room;
    }
    struct hr_object *object = &objects->items[objects->count];
    memset(object, 0, sizeof *object);
    object->path = strdup(info->dlpi_name);
    if (!object->path)
        return collection->is_out_of_memory = 1;
    objects->count++;
    read_headers(object, info);
    return 0;
}

enum hr_status hr_objects_open(struct hr_objects *objects, struct hr_error *error) {
    struct collection collection = {.objects = objects};
    memset(objects, 0, sizeof *objects);
    dl_iterate_phdr(collect, &collection);
    if (collection.is_out_of_memory) {
        hr_objects_close(objects);
        return hr_refuse_call(error, HR_NO_MEMORY, "reallocarray", ENOMEM);
    }
    return HR_OK;
}

void hr_objects_close(struct hr_objects *objects) {
    for (size_t i = 0; i < objects->count; i++)
        free(objects->items[i].path);
    free(objects->items);
    memset(objects, 0, sizeof *objects);
}

/* By name as the loader has it, else by where that name leads: never by inode, since the file may be a newer one. */
static int is_named(const struct hr_object *object, const char *path) {
    char real[PATH_MAX];
    if (!strcmp(object->path, path))
        return 1;
    return object->path[0] && realpath(object->path, real) && !strcmp(real, path);
}

static enum hr_status copy_object(struct hr_base *base, const char *path, struct hr_error *error) {
    struct hr_objects objects;
    enum hr_status status = hr_objects_open(&objects, error);
    if (status)
        return status;
    status = HR_NOT_LOADED;
    for (size_t i = 0; i < objects.count && status; i++) {
        if (!is_named(&objects.items[i], path))
            continue;
        base->object = objects.items[i];
        objects.items[i].path = NULL;
        status = HR_OK;
    }
    hr_objects_close(&objects);
    if (status) {
        hr_refuse(error, status);
        hr_error_name(error, path);
    }
    return status;
}

struct load_search {
    struct hr_base *base;
    int is_out_of_memory;
};

static int copy_loads(struct dl_phdr_info *info, size_t size, void *context) {
    struct load_search *search = context;
    struct hr_base *base = search->base;
    (void)size;
    if (info->dlpi_addr != base->object.bias || strcmp(info->dlpi_name, base->object.path))
        return 0;
    base->loads = calloc(info->dlpi_phnum, sizeof *base->loads);
    if (!base->loads)
        return search->is_out_of_memory = 1;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD)
            base->loads[base->load_count++] = (struct hr_load){
                start, start + header->p_memsz, (header->p_flags & PF_X) != 0, (header->p_flags & PF_W) != 0};
        if (header->p_type == PT_GNU_RELRO) /* of whole pages, as the loader protects it */
            base->relro = (struct hr_load){hr_page_down(start), hr_page_down(start + header->p_memsz), 0, 0};
    }
    return 1;
}

static enum hr_status open_base(struct hr_base *base, const char *path, struct hr_error *error) {
    struct load_search search = {.base = base};
    enum hr_status status = copy_object(base, path, error);
    if (status)
        return status;
    if (!base->object.build_id_len) {
        hr_refuse(error, HR_NO_BUILD_ID);
        hr_error_name(error, path);
        return HR_NO_BUILD_ID;
    }
    dl_iterate_phdr(copy_loads, &search);
    if (search.is_out_of_memory)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", ENOMEM);
    base->handle = dlopen(base->object.path, RTLD_NOLOAD | RTLD_LAZY);
    base->process = dlopen(NULL, RTLD_LAZY);
    if (!base->handle || !base->process || !base->load_count) {
        hr_refuse(error, HR_NOT_LOADED);
        hr_error_name(error, path);
        return HR_NOT_LOADED;
    }
    if (base->object.slots) /* a host that refuses this is told so where a site is opened */
        (void)mprotect((void *)base->object.slots, base->object.slots_len, PROT_READ);
    return HR_OK;
}

enum hr_status hr_base_open(const char *path, struct hr_base **base, struct hr_error *error) {
    struct hr_base *opened = calloc(1, sizeof *opened);
    if (!opened)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    enum hr_status status = open_base(opened, path, error);
    if (status)
        hr_base_close(opened);
    else
        *base = opened;
    return status;
}

void hr_base_close(struct hr_base *base) {
    if (base->reserve.end) {
        struct hr_place whole = {.address = base->reserve.start, .len = base->reserve.end - base->reserve.start};
        hr_place_close(base, &whole);
    }
    if (base->handle)
        dlclose(base->handle);
    if (base->process)
        dlclose(base->process);
    free(base->object.path);
    free(base->loads);
    free(base);
}

const struct hr_object *hr_base_object(const struct hr_base *base) {
    return &base->object;
}

int hr_base_is_text(const struct hr_base *base, uintptr_t address) {
    for (size_t i = 0; i < base->load_count; i++)
        if (base->loads[i].is_executable && address >= base->loads[i].start && address < base->loads[i].end)
            return 1;
    return 0;
}

int hr_base_is_data(const struct hr_base *base, uintptr_t address, size_t len) {
    const struct hr_load *relro = &base->relro;
    if (address < relro->end && (address >= relro->start || relro->start - address < len))
        return 0;
    for (size_t i = 0; i < base->load_count; i++) {
        const struct hr_load *load = &base->loads[i];
        if (load->is_writable && address >= load->start && address < load->end)
            return len <= load->end - address;
    }
    return 0;
}
