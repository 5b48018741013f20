/* fixup.c: the numbers of the link table, computed for one place in the address space.
 *
 *   check   may run for many candidate places; writes nothing; says which reference does not reach
 *   apply   writes into the private image in heap memory, before anything of it is mapped
 *   finish  IRELATIVE: calls the resolvers of the image, whose text is executable by then
 *
 * where --> | field | = value(kind, S, A, P)      S: bias, import or carried address    P: address of the field
 *
 * Thread-locals, as the loader lays them out (x86-64, variant II):
 *
 *        static block of a module          thread pointer (fs:0)
 *   ... |--------------------| ...        |
 *       ^ block                           ^ tp        TPOFF = block + offset - tp, negative, the same in each thread
 *
 * A pair DTPMOD/DTPOFF works for every thread and every module; TPOFF only for modules with a static block.
 *
 * Context: stage.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct tls_index {
    unsigned long module, offset;
};

extern void *__tls_get_addr(struct tls_index *index);

static uintptr_t thread_pointer(void) {
    uintptr_t pointer;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

static uintptr_t call_resolver(uintptr_t resolver) {
    return ((uintptr_t (*)(void))resolver)();
}

static uintptr_t carried_address(const struct hr_binding *binding, uint32_t index, uintptr_t image) {
    uintptr_t owner = binding->carried ? binding->carried[index] : 0;
    return owner ? owner : image + binding->patch->carried[index].image_off;
}

static const char *import_name(const struct hr_binding *binding, uint32_t index) {
    return binding->patch->strings + binding->patch->imports[index].name;
}

static enum hr_status refuse_tls(const struct hr_binding *binding, const char *name) {
    hr_refuse(binding->error, HR_TLS);
    hr_error_name(binding->error, name);
    return HR_TLS;
}

/* The module whose block, in this thread, holds the address. Looking the symbol up has allocated the block. */
static const struct hr_object *tls_owner(const struct hr_objects *objects, uintptr_t address) {
    for (size_t i = 0; i < objects->count; i++) {
        const struct hr_object *object = &objects->items[i];
        if (object->tls_block && address >= object->tls_block && address - object->tls_block < object->tls_len)
            return object;
    }
    return NULL;
}

static enum hr_status import_tls(const struct hr_binding *binding, const struct hr_link_fixup *fixup, uint64_t *value) {
    uintptr_t address = binding->imports->addresses[fixup->target];
    const struct hr_object *owner = tls_owner(binding->objects, address);
    if (!owner || (fixup->kind == HR_FIX_IMPORT_TPOFF && !owner->is_static_tls))
        return refuse_tls(binding, import_name(binding, fixup->target));
    if (fixup->kind == HR_FIX_IMPORT_DTPMOD)
        *value = owner->tls_module;
    else if (fixup->kind == HR_FIX_IMPORT_DTPOFF)
        *value = address - owner->tls_block + (uint64_t)fixup->addend;
    else
        *value = address - thread_pointer() + (uint64_t)fixup->addend;
    return HR_OK;
}

static enum hr_status base_tls(const struct hr_binding *binding, const struct hr_link_fixup *fixup, uint64_t *value) {
    const struct hr_object *base = &binding->base->object;
    if (!base->tls_module || (fixup->kind == HR_FIX_BASE_TPOFF && !base->is_static_tls))
        return refuse_tls(binding, base->path);
    if (fixup->kind == HR_FIX_BASE_DTPMOD) {
        *value = base->tls_module;
    } else {
        struct tls_index start = {.module = base->tls_module};
        *value = (uintptr_t)__tls_get_addr(&start) - thread_pointer() + (uint64_t)fixup->addend;
    }
    return HR_OK;
}

static enum hr_status base_ifunc(const struct hr_binding *binding, uint64_t offset, uint64_t *value) {
    uintptr_t resolver = binding->base->object.bias + offset;
    if (!hr_base_is_text(binding->base, resolver)) {
        hr_refuse(binding->error, HR_BAD_TABLE);
        hr_error_name(binding->error, "fixup: the resolver is not in the base's text");
        binding->error->address = resolver;
        return HR_BAD_TABLE;
    }
    *value = call_resolver(resolver);
    return HR_OK;
}

/* What the field refers to, before P is subtracted. IRELATIVE is left 0 for finish. */
static enum hr_status refer(const struct hr_binding *binding, const struct hr_link_fixup *fixup, uintptr_t image,
                            uint64_t *value) {
    const uint64_t addend = (uint64_t)fixup->addend;
    enum hr_status status = HR_OK;
    *value = 0;
    switch ((enum hr_link_fixup_kind)fixup->kind) {
    case HR_FIX_IMAGE64:
        *value = image + addend;
        break;
    case HR_FIX_BASE64:
    case HR_FIX_BASE_PC32:
    case HR_FIX_BASE_PC64:
        *value = binding->base->object.bias + addend;
        break;
    case HR_FIX_IMPORT64:
        /* A weak symbol that is missing is 0, whatever the addend. */
        *value = binding->imports->addresses[fixup->target];
        *value = *value ? *value + addend : 0;
        break;
    case HR_FIX_CARRIED64:
    case HR_FIX_CARRIED_PC32:
    case HR_FIX_CARRIED_PC64:
        *value = carried_address(binding, fixup->target, image) + addend;
        break;
    case HR_FIX_BASE_DTPMOD:
    case HR_FIX_BASE_TPOFF:
        status = base_tls(binding, fixup, value);
        break;
    case HR_FIX_IMPORT_DTPMOD:
    case HR_FIX_IMPORT_DTPOFF:
    case HR_FIX_IMPORT_TPOFF:
        status = import_tls(binding, fixup, value);
        break;
    case HR_FIX_IRELATIVE:
        break;
    case HR_FIX_BASE_IFUNC64:
        status = base_ifunc(binding, addend, value);
        break;
    case HR_FIX_BASE_IFUNC_PC32:
        status = base_ifunc(binding, fixup->target, value);
        *value += addend;
        break;
    }
    return status;
}

static int is_pc_relative(uint32_t kind) {
    return hr_fixup_len(kind) == 4 || kind == HR_FIX_BASE_PC64 || kind == HR_FIX_CARRIED_PC64;
}

static enum hr_status out_of_range(const struct hr_binding *binding, uintptr_t from, uintptr_t to, const char *name) {
    hr_refuse(binding->error, HR_OUT_OF_RANGE);
    binding->error->address = from;
    binding->error->value = to > from ? to - from : from - to;
    binding->error->limit = INT32_MAX;
    hr_error_name(binding->error, name);
    return HR_OUT_OF_RANGE;
}

static enum hr_status check_jumps(const struct hr_binding *binding, uintptr_t image) {
    const struct hr_patch *patch = binding->patch;
    int32_t displacement;
    for (uint32_t i = 0; i < patch->header.function_count; i++) {
        const struct hr_link_function *function = &patch->functions[i];
        uintptr_t entry = function->target == HR_FUNCTION_BASE
                              ? binding->base->object.bias + function->entry
                              : carried_address(binding, (uint32_t)function->entry, image);
        if (!hr_rel32(entry + 5, image + function->image_off, &displacement))
            return out_of_range(binding, entry, image + function->image_off, patch->strings + function->name);
    }
    return HR_OK;
}

enum hr_status hr_fixups_check(const struct hr_binding *binding, uintptr_t address) {
    int32_t displacement;
    for (uint32_t i = 0; i < binding->patch->header.fixup_count; i++) {
        const struct hr_link_fixup *fixup = &binding->patch->fixups[i];
        uint64_t value;
        if (hr_fixup_len(fixup->kind) != 4)
            continue;
        enum hr_status status = refer(binding, fixup, address, &value);
        if (status)
            return status;
        if (!hr_rel32(address + fixup->where, value, &displacement))
            return out_of_range(binding, address + fixup->where, value, "fixup");
    }
    return check_jumps(binding, address);
}

enum hr_status hr_fixups_apply(const struct hr_binding *binding, uintptr_t address, uint8_t *image) {
    for (uint32_t i = 0; i < binding->patch->header.fixup_count; i++) {
        const struct hr_link_fixup *fixup = &binding->patch->fixups[i];
        uint64_t value;
        enum hr_status status = refer(binding, fixup, address, &value);
        if (status)
            return status;
        if (is_pc_relative(fixup->kind))
            value -= address + fixup->where;
        if (hr_fixup_len(fixup->kind) == 4 && value + UINT64_C(0x80000000) > UINT32_MAX)
            return out_of_range(binding, address + fixup->where, address + fixup->where + value, "fixup");
        memcpy(image + fixup->where, &value, hr_fixup_len(fixup->kind)); /* little-endian: the low bytes are first */
    }
    return HR_OK;
}

static int prot_at(const struct hr_patch *patch, uint64_t where) {
    for (uint32_t i = 0; i < patch->header.segment_count; i++)
        if (where >= patch->segments[i].image_off && where - patch->segments[i].image_off < patch->segments[i].mem_len)
            return (int)patch->segments[i].prot; /* HR_LINK_* have the values of PROT_* */
    return PROT_NONE;
}

/* A field of 8 bytes can lie on two pages, of one segment. */
static enum hr_status write_late(const struct hr_binding *binding, uintptr_t at, uint64_t value, int prot) {
    void *page = (void *)hr_page_down(at);
    size_t len = hr_page_up(at + sizeof value) - hr_page_down(at);
    if (!(prot & PROT_WRITE) && mprotect(page, len, prot | PROT_WRITE))
        return hr_refuse_call(binding->error, HR_MAP, "mprotect", errno);
    memcpy((void *)at, &value, sizeof value);
    if (!(prot & PROT_WRITE) && mprotect(page, len, prot))
        return hr_refuse_call(binding->error, HR_MAP, "mprotect", errno);
    return HR_OK;
}

enum hr_status hr_fixups_finish(const struct hr_binding *binding, uintptr_t address) {
    for (uint32_t i = 0; i < binding->patch->header.fixup_count; i++) {
        const struct hr_link_fixup *fixup = &binding->patch->fixups[i];
        if (fixup->kind != HR_FIX_IRELATIVE)
            continue;
        uint64_t value = call_resolver(address + (uint64_t)fixup->addend);
        enum hr_status status =
            write_late(binding, address + fixup->where, value, prot_at(binding->patch, fixup->where));
        if (status)
            return status;
    }
    return HR_OK;
}
