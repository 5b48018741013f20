/* site.c: recognises an entry that may be redirected, and encodes what is stored there.
 *
 *   jump: the entry itself is stored
 *     untouched   0f 1f 84 00 00 00 00 00   nopl 0x0(%rax,%rax,1)     whole extension, finished after linking
 *                 48 8d a4 24 00 00 00 00   lea  0x0(%rsp),%rsp       marked in C, ms_hook_prologue
 *     redirected  e9 r0 r1 r2 r3 cc cc cc   jmp  rel32; int3 x 3      the int3 are reached by nobody
 *                 ^ 8-byte aligned, so one store changes all of it and it never crosses a cache line
 *     refused     cc ...                    a breakpoint is there: whoever set it will write its old byte back
 *
 *   slot: the entry is never written, its slot is
 *     entry       ff 25 r0 r1 r2 r3 cc cc   jmp  *slot(%rip); int3 x 2
 *                 |                         with a breakpoint over its first byte it is still the same entry
 *                 +--> slot                 8 aligned bytes in private data of the same file, on pages of their own
 *     untouched        entry + 8
 *     redirected       anything else
 *
 * A thread stands before the instruction or after it (entry + 8), never inside, whichever of the forms is there.
 *
 * Context: stage. The memory is looked at only after the map says that it can be read.
 */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLOT_JUMP_LEN = 6, INT3 = 0xcc };

uint64_t hr_encode_jump(int32_t displacement) {
    return UINT64_C(0xcccccc00000000e9) | (uint64_t)(uint32_t)displacement << 8;
}

uint64_t hr_encode_slot_jump(int32_t displacement) {
    return UINT64_C(0xcccc0000000025ff) | (uint64_t)(uint32_t)displacement << 16;
}

static enum hr_status refuse_site(struct hr_error *error, enum hr_status status, uintptr_t entry, uint64_t value) {
    hr_refuse(error, status);
    error->address = entry;
    error->value = value;
    return status;
}

static int is_jump(uint64_t word) {
    return (word & UINT64_C(0xffffff00000000ff)) == hr_encode_jump(0);
}

static int has_breakpoint(uint64_t word) {
    return (word & 0xff) == INT3;
}

static uint64_t without_breakpoint(uint64_t word) {
    return has_breakpoint(word) ? (word & ~UINT64_C(0xff)) | 0xff : word;
}

static int is_slot_jump(uint64_t word) {
    return (without_breakpoint(word) & UINT64_C(0xffff00000000ffff)) == hr_encode_slot_jump(0);
}

static uint64_t read_word(uintptr_t address) {
    return __atomic_load_n((const uint64_t *)address, __ATOMIC_ACQUIRE);
}

uint64_t hr_site_entry_word(const struct hr_site *site) {
    if (site->kind == HR_SITE_JUMP)
        return site->present;
    return hr_encode_slot_jump((int32_t)(site->where - site->entry - SLOT_JUMP_LEN));
}

int hr_site_is_as_opened(const struct hr_site *site, uint64_t word) {
    return (site->kind == HR_SITE_JUMP ? word : without_breakpoint(word)) == hr_site_entry_word(site);
}

/* What the search for slots needs to know of an entry besides the site. */
struct origin {
    uint64_t device, inode;
    uint64_t word;
};

struct opening {
    const uintptr_t *entries;
    struct hr_site *sites; /* entry is 0 until it is found; original is 0 until its slot is, and no prologue is 0 */
    struct origin *origins;
    size_t count;
    struct hr_error *error;
};

static enum hr_status open_site(struct opening *opening, size_t i, const struct hr_mapping *mapping) {
    uintptr_t entry = opening->entries[i];
    uint64_t word = read_word(entry);
    opening->origins[i] = (struct origin){mapping->device, mapping->inode, word};
    if (is_slot_jump(word)) { /* before the breakpoint: there it does no harm */
        uintptr_t slot = entry + SLOT_JUMP_LEN + (uintptr_t)(intptr_t)(int32_t)(word >> 16);
        opening->sites[i] = (struct hr_site){.entry = entry, .where = slot, .kind = HR_SITE_SLOT};
        return HR_OK;
    }
    if (has_breakpoint(word))
        return refuse_site(opening->error, HR_BREAKPOINT, entry, word);
    if (is_jump(word))
        return refuse_site(opening->error, HR_REDIRECTED, entry, word);
    if (word != HR_PROLOGUE_NOPL && word != HR_PROLOGUE_LEA)
        return refuse_site(opening->error, HR_NOT_A_HOOK, entry, word);
    opening->sites[i] = (struct hr_site){.entry = entry, .where = entry, .original = word, .present = word};
    return HR_OK;
}

static int is_patchable(const struct hr_mapping *mapping) {
    const int text = HR_MAP_R | HR_MAP_X;
    return mapping->is_private && (mapping->prot & text) == text;
}

/* One pass over the map for all of them. */
static enum hr_status open_in_text(struct opening *opening, const struct hr_mapping *mapping) {
    enum hr_status status = HR_OK;
    if (!is_patchable(mapping))
        return HR_OK;
    for (size_t i = 0; i < opening->count && !status; i++)
        if (opening->entries[i] >= mapping->start && opening->entries[i] < mapping->end)
            status = open_site(opening, i, mapping);
    return status;
}

static int has_slot_in(const struct opening *opening, size_t i, const struct hr_mapping *mapping) {
    const struct hr_site *site = &opening->sites[i];
    const struct origin *origin = &opening->origins[i];
    return site->kind == HR_SITE_SLOT && site->where % 8 == 0 && site->where >= mapping->start &&
           site->where < mapping->end && mapping->inode && mapping->inode == origin->inode &&
           mapping->device == origin->device;
}

/* Another pass, since a slot may stand before the text or after it. */
static enum hr_status open_in_data(struct opening *opening, const struct hr_mapping *mapping) {
    if (!mapping->is_private || !(mapping->prot & HR_MAP_R) || mapping->prot & HR_MAP_X)
        return HR_OK;
    for (size_t i = 0; i < opening->count; i++) {
        struct hr_site *site = &opening->sites[i];
        if (!has_slot_in(opening, i, mapping))
            continue;
        uint64_t value = read_word(site->where);
        if (value != site->entry + 8) {
            refuse_site(opening->error, HR_REDIRECTED, site->entry, value);
            opening->error->limit = site->entry + 8;
            return HR_REDIRECTED;
        }
        site->original = site->present = value;
    }
    return HR_OK;
}

typedef enum hr_status open_in(struct opening *opening, const struct hr_mapping *mapping);

static enum hr_status walk(struct opening *opening, open_in *visit) {
    struct hr_maps maps;
    struct hr_mapping mapping;
    enum hr_status status = hr_maps_open(&maps, opening->error);
    if (status)
        return status;
    while (!status && hr_maps_next(&maps, &mapping))
        status = visit(opening, &mapping);
    if (!status)
        status = maps.status;
    hr_maps_close(&maps);
    return status;
}

/* A slot is a pointer that code jumps through: nobody is to write it between commits. */
static enum hr_status close_slots(struct opening *opening) {
    uintptr_t closed = 0;
    for (size_t i = 0; i < opening->count; i++) {
        uintptr_t page = hr_page_down(opening->sites[i].where);
        if (opening->sites[i].kind != HR_SITE_SLOT || page == closed)
            continue;
        if (mprotect((void *)page, HR_PAGE, PROT_READ)) {
            hr_refuse_call(opening->error, HR_SLOT_LOCKED, "mprotect(r--)", errno);
            opening->error->address = page;
            return HR_SLOT_LOCKED;
        }
        closed = page;
    }
    return HR_OK;
}

static enum hr_status open_slots(struct opening *opening) {
    enum hr_status status = walk(opening, open_in_data);
    for (size_t i = 0; i < opening->count && !status; i++) {
        uint64_t word = opening->origins[i].word;
        if (!opening->sites[i].original)
            status = refuse_site(opening->error, has_breakpoint(word) ? HR_BREAKPOINT : HR_NOT_A_SLOT,
                                 opening->entries[i], word);
    }
    return status ? status : close_slots(opening);
}

static enum hr_status open_all(struct opening *opening) {
    int has_slots = 0;
    enum hr_status status = walk(opening, open_in_text);
    for (size_t i = 0; i < opening->count && !status; i++) {
        if (!opening->sites[i].entry)
            status = refuse_site(opening->error, HR_NOT_TEXT, opening->entries[i], 0);
        has_slots |= opening->sites[i].kind == HR_SITE_SLOT;
    }
    return status || !has_slots ? status : open_slots(opening);
}

enum hr_status hr_sites_open(const uintptr_t *entries, size_t count, struct hr_site *sites, struct hr_error *error) {
    memset(sites, 0, count * sizeof *sites);
    for (size_t i = 0; i < count; i++)
        if (entries[i] % 8)
            return refuse_site(error, HR_UNALIGNED, entries[i], entries[i] % 8);
    struct opening opening = {.entries = entries, .sites = sites, .count = count, .error = error};
    opening.origins = calloc(count + 1, sizeof *opening.origins);
    if (!opening.origins)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    enum hr_status status = open_all(&opening);
    free(opening.origins);
    return status;
}
