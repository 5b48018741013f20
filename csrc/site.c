/* site.c: recognises an entry that may be redirected, and encodes what is stored there.
 *
 *   untouched   0f 1f 84 00 00 00 00 00   nopl 0x0(%rax,%rax,1)     whole extension, finished after linking
 *               48 8d a4 24 00 00 00 00   lea  0x0(%rsp),%rsp       marked in C, ms_hook_prologue
 *   redirected  e9 r0 r1 r2 r3 cc cc cc   jmp  rel32; int3 x 3      the int3 are reached by nobody
 *               ^ 8-byte aligned, so one store changes all of it and it never crosses a cache line
 *   refused     cc ...                    a breakpoint is there: whoever set it will write its old byte back
 *
 * A thread stands before the instruction or after it (entry + 8), never inside, whichever of the forms is there.
 *
 * Context: stage. The memory is looked at only after the map says that it can be read.
 */
#include "internal.h"

#include <string.h>

uint64_t hr_encode_jump(int32_t displacement) {
    return UINT64_C(0xcccccc00000000e9) | (uint64_t)(uint32_t)displacement << 8;
}

static enum hr_status refuse_site(struct hr_error *error, enum hr_status status, uintptr_t entry, uint64_t value) {
    hr_refuse(error, status);
    error->address = entry;
    error->value = value;
    return status;
}

static int is_jump(uint64_t word) {
    return (word & UINT64_C(0xffffff00000000ff)) == UINT64_C(0xcccccc00000000e9);
}

static enum hr_status open_site(uintptr_t entry, struct hr_site *site, struct hr_error *error) {
    uint64_t word = __atomic_load_n((const uint64_t *)entry, __ATOMIC_ACQUIRE);
    if ((word & 0xff) == 0xcc)
        return refuse_site(error, HR_BREAKPOINT, entry, word);
    if (is_jump(word))
        return refuse_site(error, HR_REDIRECTED, entry, word);
    if (word != HR_PROLOGUE_NOPL && word != HR_PROLOGUE_LEA)
        return refuse_site(error, HR_NOT_A_HOOK, entry, word);
    *site = (struct hr_site){.entry = entry, .original = word, .present = word};
    return HR_OK;
}

static int is_patchable(const struct hr_mapping *mapping) {
    const int text = HR_MAP_R | HR_MAP_X;
    return mapping->is_private && (mapping->prot & text) == text;
}

/* One pass over the map for all of them; original is 0 until a site is found, and no prologue is 0. */
static enum hr_status open_in_mapping(const struct hr_mapping *mapping, const uintptr_t *entries, size_t count,
                                      struct hr_site *sites, struct hr_error *error) {
    enum hr_status status = HR_OK;
    for (size_t i = 0; i < count && !status; i++)
        if (entries[i] >= mapping->start && entries[i] < mapping->end)
            status = open_site(entries[i], &sites[i], error);
    return status;
}

enum hr_status hr_sites_open(const uintptr_t *entries, size_t count, struct hr_site *sites, struct hr_error *error) {
    struct hr_maps maps;
    struct hr_mapping mapping;
    memset(sites, 0, count * sizeof *sites);
    for (size_t i = 0; i < count; i++)
        if (entries[i] % 8)
            return refuse_site(error, HR_UNALIGNED, entries[i], entries[i] % 8);
    enum hr_status status = hr_maps_open(&maps, error);
    if (status)
        return status;
    while (!status && hr_maps_next(&maps, &mapping))
        if (is_patchable(&mapping))
            status = open_in_mapping(&mapping, entries, count, sites, error);
    if (!status)
        status = maps.status;
    hr_maps_close(&maps);
    for (size_t i = 0; i < count && !status; i++)
        if (!sites[i].original)
            status = refuse_site(error, HR_NOT_TEXT, entries[i], 0);
    return status;
}
