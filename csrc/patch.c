/* patch.c: reads a patch file into private memory and believes nothing that it says.
 *
 *   ELF header -> section headers -> ".hotreload.link" -> link table -> every offset, index, count and overlap
 *        |                                                   (drawn in linktable.h)
 *        +-----> program headers: no PT_TLS
 *        +-----> ".hotreload.debug", if there is one -> every offset and count (drawn in genfile.h)
 *
 * The rest of the ELF file is the linker's own bookkeeping and is not used. Everything is read by copying out of the
 * one private buffer, so a file that changes meanwhile, is hostile or ends early gives a refusal and nothing else.
 *
 * Context: stage. Nothing of the process is changed here.
 */
#include "internal.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t file_len_max = UINT64_C(256) << 20;
static const uint64_t image_len_max = UINT64_C(1) << 30;

enum { SEGMENTS_MAX = 64 };

/* One field of the table that is not what it must be. */
static enum hr_status bad(struct hr_error *error, const char *field, uint64_t value, uint64_t limit) {
    hr_refuse(error, HR_BAD_TABLE);
    hr_error_name(error, field);
    error->value = value;
    error->limit = limit;
    return HR_BAD_TABLE;
}

static enum hr_status truncated(struct hr_error *error, const char *what, uint64_t needed, uint64_t len) {
    hr_refuse(error, HR_TRUNCATED);
    hr_error_name(error, what);
    error->value = needed;
    error->limit = len;
    return HR_TRUNCATED;
}

/* Is [at, at + len) inside [0, room)? Written so that nothing can overflow. */
static int fits(uint64_t at, uint64_t len, uint64_t room) {
    return at <= room && len <= room - at;
}

/* As Python has them on x86-64: PyMethodDef; PyGetSetDef and PyMemberDef. */
uint64_t hr_table_entry_len(uint32_t kind) {
    return kind == HR_TABLE_METHODS ? 32 : 40;
}

size_t hr_fixup_len(uint32_t kind) {
    return kind == HR_FIX_BASE_PC32 || kind == HR_FIX_CARRIED_PC32 || kind == HR_FIX_BASE_IFUNC_PC32 ? 4 : 8;
}

static enum hr_status check_elf(const struct hr_patch *patch, Elf64_Ehdr *elf, struct hr_error *error) {
    if (patch->file_len < sizeof *elf)
        return patch->file_len >= SELFMAG && !memcmp(patch->file, ELFMAG, SELFMAG)
                   ? truncated(error, "ELF header", sizeof *elf, patch->file_len)
                   : hr_refuse(error, HR_NOT_ELF);
    memcpy(elf, patch->file, sizeof *elf);
    if (memcmp(elf->e_ident, ELFMAG, SELFMAG) || elf->e_ident[EI_CLASS] != ELFCLASS64 ||
        elf->e_ident[EI_DATA] != ELFDATA2LSB || elf->e_machine != EM_X86_64 || elf->e_type != ET_DYN ||
        elf->e_shentsize != sizeof(Elf64_Shdr) || elf->e_phentsize != sizeof(Elf64_Phdr))
        return hr_refuse(error, HR_NOT_ELF);
    if (!fits(elf->e_shoff, (uint64_t)elf->e_shnum * sizeof(Elf64_Shdr), patch->file_len))
        return truncated(error, "section headers", elf->e_shoff, patch->file_len);
    if (!fits(elf->e_phoff, (uint64_t)elf->e_phnum * sizeof(Elf64_Phdr), patch->file_len))
        return truncated(error, "program headers", elf->e_phoff, patch->file_len);
    return HR_OK;
}

static enum hr_status check_program_headers(const struct hr_patch *patch, const Elf64_Ehdr *elf,
                                            struct hr_error *error) {
    for (size_t i = 0; i < elf->e_phnum; i++) {
        Elf64_Phdr header;
        memcpy(&header, patch->file + elf->e_phoff + i * sizeof header, sizeof header);
        if (header.p_type == PT_TLS && header.p_memsz) {
            hr_refuse(error, HR_NEW_TLS);
            error->value = header.p_memsz;
            return HR_NEW_TLS;
        }
    }
    return HR_OK;
}

static void read_section(const struct hr_patch *patch, const Elf64_Ehdr *elf, size_t index, Elf64_Shdr *section) {
    memcpy(section, patch->file + elf->e_shoff + index * sizeof *section, sizeof *section);
}

/* Does the name at this offset of the section names equal this one, all of it inside the file? */
static int is_named(const struct hr_patch *patch, const Elf64_Shdr *names, const Elf64_Shdr *section,
                    const char *name) {
    size_t len = strlen(name) + 1;
    return fits(section->sh_name, len, names->sh_size) &&
           !memcmp(patch->file + names->sh_offset + section->sh_name, name, len);
}

/* HR_NO_TABLE when no section has that name. */
static enum hr_status find_section(const struct hr_patch *patch, const Elf64_Ehdr *elf, const char *name,
                                   Elf64_Shdr *found, struct hr_error *error) {
    Elf64_Shdr names;
    if (elf->e_shstrndx >= elf->e_shnum)
        return hr_refuse(error, HR_NO_TABLE);
    read_section(patch, elf, elf->e_shstrndx, &names);
    if (!fits(names.sh_offset, names.sh_size, patch->file_len))
        return truncated(error, "section names", names.sh_offset, patch->file_len);
    for (size_t i = 0; i < elf->e_shnum; i++) {
        read_section(patch, elf, i, found);
        if (found->sh_type == SHT_NOBITS || !is_named(patch, &names, found, name))
            continue;
        if (!fits(found->sh_offset, found->sh_size, patch->file_len))
            return truncated(error, name, found->sh_offset + found->sh_size, patch->file_len);
        return HR_OK;
    }
    return hr_refuse(error, HR_NO_TABLE);
}

/* Another version of hotreload made it, or it is no link table at all. The version is the two digits at the end. */
static enum hr_status refuse_magic(const struct hr_link_header *header, struct hr_error *error) {
    const size_t digits = 2, len = sizeof header->magic - digits;
    const char *found = header->magic + len;
    if (memcmp(header->magic, HR_LINK_MAGIC, len) || found[0] < '0' || found[0] > '9' || found[1] < '0' ||
        found[1] > '9')
        return bad(error, "magic", 0, 0);
    hr_refuse(error, HR_FORMAT);
    error->value = (uint64_t)(found[0] - '0') * 10 + (uint64_t)(found[1] - '0');
    error->limit = HR_LINK_VERSION;
    return HR_FORMAT;
}

/* Copies the table, which makes it aligned, and lays the arrays out. Counts are 32-bit and records small, so the sum
 * of the lengths cannot overflow 64 bits. */
static enum hr_status read_table(struct hr_patch *patch, const Elf64_Shdr *section, struct hr_error *error) {
    struct hr_link_header *header = &patch->header;
    if (section->sh_size < sizeof *header)
        return truncated(error, HR_LINK_SECTION, sizeof *header, section->sh_size);
    memcpy(header, patch->file + section->sh_offset, sizeof *header);
    if (memcmp(header->magic, HR_LINK_MAGIC, sizeof header->magic))
        return refuse_magic(header, error);
    uint64_t segments = sizeof *header;
    uint64_t fixups = segments + header->segment_count * sizeof *patch->segments;
    uint64_t imports = fixups + header->fixup_count * sizeof *patch->fixups;
    uint64_t libraries = imports + header->import_count * sizeof *patch->imports;
    uint64_t carried = libraries + header->library_count * sizeof *patch->libraries;
    uint64_t functions = carried + header->carried_count * sizeof *patch->carried;
    uint64_t ranges = functions + header->function_count * sizeof *patch->functions;
    uint64_t hooks = ranges + header->range_count * sizeof *patch->ranges;
    uint64_t tables = hooks + header->hook_count * sizeof *patch->hooks;
    uint64_t strings = tables + header->table_count * sizeof *patch->tables;
    if (header->total_len != section->sh_size || strings + header->string_len != header->total_len)
        return bad(error, "total_len", strings + header->string_len, section->sh_size);
    uint8_t *table = malloc(header->total_len);
    if (!table)
        return hr_refuse_call(error, HR_NO_MEMORY, "malloc", errno);
    memcpy(table, patch->file + section->sh_offset, header->total_len);
    patch->table = table;
    patch->segments = (void *)(table + segments);
    patch->fixups = (void *)(table + fixups);
    patch->imports = (void *)(table + imports);
    patch->libraries = (void *)(table + libraries);
    patch->carried = (void *)(table + carried);
    patch->functions = (void *)(table + functions);
    patch->ranges = (void *)(table + ranges);
    patch->hooks = (void *)(table + hooks);
    patch->tables = (void *)(table + tables);
    patch->strings = (const char *)table + strings;
    if (!header->string_len || patch->strings[header->string_len - 1])
        return bad(error, "strings", header->string_len, 0);
    return HR_OK;
}

static enum hr_status check_header(const struct hr_patch *patch, struct hr_error *error) {
    const struct hr_link_header *header = &patch->header;
    if (!header->build_id_len || header->build_id_len > sizeof header->build_id)
        return bad(error, "build_id_len", header->build_id_len, sizeof header->build_id);
    if (!header->image_len || header->image_len % HR_PAGE || header->image_len > image_len_max)
        return bad(error, "image_len", header->image_len, image_len_max);
    if (!header->segment_count || header->segment_count > SEGMENTS_MAX)
        return bad(error, "segment_count", header->segment_count, SEGMENTS_MAX);
    if (header->flags & ~(uint32_t)HR_LINK_DATA_ESCAPES)
        return bad(error, "flags", header->flags, HR_LINK_DATA_ESCAPES);
    return HR_OK;
}

static enum hr_status check_segments(const struct hr_patch *patch, struct hr_error *error) {
    const uint32_t all = HR_LINK_R | HR_LINK_W | HR_LINK_X;
    uint64_t end = 0;
    for (uint32_t i = 0; i < patch->header.segment_count; i++) {
        const struct hr_link_segment *segment = &patch->segments[i];
        if (segment->image_off % HR_PAGE || segment->image_off < end)
            return bad(error, "segment.image_off", segment->image_off, end);
        if (!segment->mem_len || !fits(segment->image_off, segment->mem_len, patch->header.image_len))
            return bad(error, "segment.mem_len", segment->mem_len, patch->header.image_len);
        if (segment->file_len > segment->mem_len)
            return bad(error, "segment.file_len", segment->file_len, segment->mem_len);
        if (!fits(segment->file_off, segment->file_len, patch->file_len))
            return truncated(error, "segment", segment->file_off + segment->file_len, patch->file_len);
        if (!segment->prot || segment->prot & ~all)
            return bad(error, "segment.prot", segment->prot, all);
        if (segment->prot & HR_LINK_W && segment->prot & HR_LINK_X) {
            hr_refuse(error, HR_WRITABLE_CODE);
            error->address = segment->image_off;
            return HR_WRITABLE_CODE;
        }
        end = hr_page_up(segment->image_off + segment->mem_len);
    }
    return HR_OK;
}

/* The segment that holds all of [at, at + len), or NULL. */
static const struct hr_link_segment *segment_of(const struct hr_patch *patch, uint64_t at, uint64_t len) {
    for (uint32_t i = 0; i < patch->header.segment_count; i++) {
        const struct hr_link_segment *segment = &patch->segments[i];
        if (at >= segment->image_off && fits(at - segment->image_off, len, segment->mem_len))
            return segment;
    }
    return NULL;
}

static int is_code(const struct hr_patch *patch, uint64_t at) {
    const struct hr_link_segment *segment = segment_of(patch, at, 1);
    return segment && segment->prot & HR_LINK_X;
}

/* How many things the target of this kind of fixup may index, or 0 when it is no index. */
static uint64_t target_count(const struct hr_patch *patch, uint32_t kind) {
    switch (kind) {
    case HR_FIX_IMPORT64:
    case HR_FIX_IMPORT_DTPMOD:
    case HR_FIX_IMPORT_DTPOFF:
    case HR_FIX_IMPORT_TPOFF:
        return patch->header.import_count;
    case HR_FIX_CARRIED64:
    case HR_FIX_CARRIED_PC32:
    case HR_FIX_CARRIED_PC64:
        return patch->header.carried_count;
    default:
        return UINT64_MAX;
    }
}

static int is_known(uint32_t kind) {
    switch (kind) {
#define X(number, name, text) case HR_FIX_##name:
        HR_LINK_FIXUPS(X)
#undef X
        return 1;
    default:
        return 0;
    }
}

static enum hr_status check_fixups(const struct hr_patch *patch, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.fixup_count; i++) {
        const struct hr_link_fixup *fixup = &patch->fixups[i];
        if (!is_known(fixup->kind))
            return bad(error, "fixup.kind", fixup->kind, 0);
        const struct hr_link_segment *segment = segment_of(patch, fixup->where, hr_fixup_len(fixup->kind));
        if (!segment)
            return bad(error, "fixup.where", fixup->where, patch->header.image_len);
        if (fixup->target >= target_count(patch, fixup->kind))
            return bad(error, "fixup.target", fixup->target, target_count(patch, fixup->kind));
        if (fixup->kind != HR_FIX_IRELATIVE)
            continue;
        /* Its resolver can run only when the text is mapped, and then the field must be in memory that may be opened.
         */
        if (segment->prot & HR_LINK_X)
            return bad(error, "fixup.where", fixup->where, 0);
        if (!is_code(patch, (uint64_t)fixup->addend))
            return bad(error, "fixup.addend", (uint64_t)fixup->addend, patch->header.image_len);
    }
    return HR_OK;
}

static enum hr_status check_string(const struct hr_patch *patch, uint32_t at, const char *field, int may_be_empty,
                                   struct hr_error *error) {
    if (at >= patch->header.string_len)
        return bad(error, field, at, patch->header.string_len);
    if (!may_be_empty && !patch->strings[at])
        return bad(error, field, at, 0);
    return HR_OK;
}

static enum hr_status check_names(const struct hr_patch *patch, struct hr_error *error) {
    enum hr_status status = HR_OK;
    for (uint32_t i = 0; i < patch->header.import_count && !status; i++) {
        status = check_string(patch, patch->imports[i].name, "import.name", 0, error);
        if (!status)
            status = check_string(patch, patch->imports[i].version, "import.version", 1, error);
        if (!status && patch->imports[i].flags & ~(uint32_t)HR_IMPORT_WEAK)
            status = bad(error, "import.flags", patch->imports[i].flags, HR_IMPORT_WEAK);
    }
    for (uint32_t i = 0; i < patch->header.library_count && !status; i++)
        status = check_string(patch, patch->libraries[i].name, "library.name", 0, error);
    for (uint32_t i = 0; i < patch->header.carried_count && !status; i++)
        status = check_string(patch, patch->carried[i].key, "carried.key", 0, error);
    for (uint32_t i = 0; i < patch->header.function_count && !status; i++)
        status = check_string(patch, patch->functions[i].name, "function.name", 0, error);
    for (uint32_t i = 0; i < patch->header.hook_count && !status; i++)
        status = check_string(patch, patch->hooks[i].name, "hook.name", 0, error);
    for (uint32_t i = 0; i < patch->header.table_count && !status; i++)
        status = check_string(patch, patch->tables[i].name, "table.name", 0, error);
    for (uint32_t i = 0; i < patch->header.table_count && !status; i++)
        status = check_string(patch, patch->tables[i].changes, "table.changes", 1, error);
    return status;
}

static enum hr_status check_carried(const struct hr_patch *patch, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.carried_count; i++) {
        const struct hr_link_carried *carried = &patch->carried[i];
        if (carried->flags & ~(uint32_t)HR_CARRIED_FUNCTION)
            return bad(error, "carried.flags", carried->flags, HR_CARRIED_FUNCTION);
        if (!segment_of(patch, carried->image_off, carried->size))
            return bad(error, "carried.image_off", carried->image_off, patch->header.image_len);
        if (carried->flags & HR_CARRIED_FUNCTION && !is_code(patch, carried->image_off))
            return bad(error, "carried.image_off", carried->image_off, patch->header.image_len);
    }
    return HR_OK;
}

static enum hr_status check_functions(const struct hr_patch *patch, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.function_count; i++) {
        const struct hr_link_function *function = &patch->functions[i];
        if (!is_code(patch, function->image_off))
            return bad(error, "function.image_off", function->image_off, patch->header.image_len);
        if (function->target != HR_FUNCTION_BASE && function->target != HR_FUNCTION_CARRIED)
            return bad(error, "function.target", function->target, HR_FUNCTION_CARRIED);
        if (function->target == HR_FUNCTION_CARRIED && (function->entry >= patch->header.carried_count ||
                                                        !(patch->carried[function->entry].flags & HR_CARRIED_FUNCTION)))
            return bad(error, "function.entry", function->entry, patch->header.carried_count);
    }
    return HR_OK;
}

/* Walks functions and ranges together, which their order allows. Whether a range is text is known at stage only. */
static enum hr_status check_ranges(const struct hr_patch *patch, struct hr_error *error) {
    const uint32_t count = patch->header.range_count;
    uint32_t next = 0;
    for (uint32_t i = 0; i < patch->header.function_count; i++) {
        const struct hr_link_function *function = &patch->functions[i];
        int is_covered = function->target == HR_FUNCTION_CARRIED;
        for (; next < count && patch->ranges[next].function == i; next++) {
            const struct hr_link_range *range = &patch->ranges[next];
            if (function->target == HR_FUNCTION_CARRIED)
                return bad(error, "range.function", i, patch->header.function_count);
            if (!range->len || !fits(range->base_off, range->len, INT64_MAX))
                return bad(error, "range.len", range->len, INT64_MAX);
            if (function->entry >= range->base_off && function->entry - range->base_off < range->len)
                is_covered = 1;
        }
        if (!is_covered)
            return bad(error, "function without its range", function->entry, 0);
    }
    if (next < count)
        return bad(error, "range.function", patch->ranges[next].function, patch->header.function_count);
    return HR_OK;
}

static enum hr_status check_hooks(const struct hr_patch *patch, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.hook_count; i++) {
        const struct hr_link_hook *hook = &patch->hooks[i];
        if (hook->kind < HR_HOOK_PRE_COMMIT || hook->kind > HR_HOOK_POST_ROLLBACK)
            return bad(error, "hook.kind", hook->kind, HR_HOOK_POST_ROLLBACK);
        if (!is_code(patch, hook->image_off))
            return bad(error, "hook.image_off", hook->image_off, patch->header.image_len);
    }
    return HR_OK;
}

static enum hr_status check_tables(const struct hr_patch *patch, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.table_count; i++) {
        const struct hr_link_table *table = &patch->tables[i];
        if (table->kind < HR_TABLE_METHODS || table->kind > HR_TABLE_MEMBERS)
            return bad(error, "table.kind", table->kind, HR_TABLE_MEMBERS);
        if (!table->base_count && table->kind == HR_TABLE_MEMBERS)
            return bad(error, "table.base_count", 0, 1);
        const char *changes = patch->strings + table->changes;
        for (size_t k = 0; k <= table->base_count; k++)
            if (k < table->base_count ? changes[k] < 'a' || changes[k] > 'a' + HR_TABLE_BITS : changes[k] != 0)
                return bad(error, "table.changes", k, table->base_count);
        const struct hr_link_segment *segment = /* with the empty entry at its end */
            segment_of(patch, table->image_off, (table->count + UINT64_C(1)) * hr_table_entry_len(table->kind));
        if (!segment || !(segment->prot & HR_LINK_W) || table->image_off % sizeof(uintptr_t))
            return bad(error, "table.image_off", table->image_off, patch->header.image_len);
    }
    return HR_OK;
}

static enum hr_status check_frames(const struct hr_patch *patch, struct hr_error *error) {
    const struct hr_link_header *header = &patch->header;
    if (!header->eh_frame)
        return HR_OK;
    const struct hr_link_segment *segment = segment_of(patch, header->eh_frame, header->eh_frame_len);
    if (!segment || segment->file_len < segment->mem_len)
        return bad(error, "eh_frame", header->eh_frame, header->image_len);
    return hr_frames_check(patch->file + segment->file_off + (header->eh_frame - segment->image_off),
                           header->eh_frame_len, error);
}

static int is_place(const struct hr_debug_header *header, uint64_t image_len, uint64_t where, uint64_t len) {
    return fits(where, len, header->head_len) || (where >= image_len && fits(where - image_len, len, header->tail_len));
}

/* What it changes of the image is what a loader would not look at: never a field of a fixup, code or unwind tables,
 * which were checked as they are in the patch. */
static enum hr_status check_debug_image(const struct hr_patch *patch, const struct hr_debug_header *debug,
                                        struct hr_error *error) {
    const struct hr_link_segment *segment = segment_of(patch, debug->build_id_off, HR_BUILD_ID_LEN);
    const uint64_t frames = patch->header.eh_frame, end = debug->build_id_off + HR_BUILD_ID_LEN;
    if (debug->head_len % 8 || debug->head_len > HR_HEAD_LEN_MAX || !segment_of(patch, 0, debug->head_len + 1))
        return bad(error, "debug.head_len", debug->head_len, HR_HEAD_LEN_MAX);
    if (!segment || segment->image_off || debug->build_id_off < debug->head_len)
        return bad(error, "debug.build_id_off", debug->build_id_off, patch->header.image_len);
    if (frames && frames < end)
        return bad(error, "debug.build_id_off", debug->build_id_off, frames);
    for (uint32_t i = 0; i < patch->header.function_count; i++)
        if (patch->functions[i].image_off < end)
            return bad(error, "debug.build_id_off", debug->build_id_off, patch->functions[i].image_off);
    for (uint32_t i = 0; i < patch->header.fixup_count; i++)
        if (patch->fixups[i].where < end)
            return bad(error, "debug.build_id_off", debug->build_id_off, patch->fixups[i].where);
    return HR_OK;
}

static enum hr_status check_debug(const struct hr_patch *patch, const struct hr_debug *debug, struct hr_error *error) {
    const uint64_t image_len = patch->header.image_len;
    for (uint32_t i = 0; i < debug->header->place_count; i++) {
        const struct hr_debug_place *place = &debug->places[i];
        if (!is_place(debug->header, image_len, place->where, sizeof(uint64_t)))
            return bad(error, "debug.place", place->where, image_len + debug->header->tail_len);
        if (place->kind != HR_PLACE_IMAGE && place->kind != HR_PLACE_BASE)
            return bad(error, "debug.kind", place->kind, HR_PLACE_BASE);
    }
    for (uint32_t i = 0; i < debug->header->name_count; i++)
        if (debug->names[i].where < image_len ||
            !is_place(debug->header, image_len, debug->names[i].where, HR_NUMBER_ROOM))
            return bad(error, "debug.name", debug->names[i].where, image_len + debug->header->tail_len);
    return HR_OK;
}

/* The section may be missing. It stays where it is in the file, which is private memory too. */
static enum hr_status read_debug(struct hr_patch *patch, const Elf64_Ehdr *elf, struct hr_error *error) {
    Elf64_Shdr section;
    enum hr_status status = find_section(patch, elf, HR_DEBUG_SECTION, &section, error);
    if (status == HR_NO_TABLE)
        return hr_refuse(error, HR_OK);
    if (status)
        return status;
    const struct hr_debug_header *header = (const void *)(patch->file + section.sh_offset);
    if (section.sh_offset % 8)
        return bad(error, "debug.offset", section.sh_offset, 8);
    if (section.sh_size < sizeof *header)
        return truncated(error, HR_DEBUG_SECTION, sizeof *header, section.sh_size);
    if (memcmp(header->magic, HR_DEBUG_MAGIC, sizeof header->magic))
        return HR_OK; /* of another version: nothing that the code depends on */
    uint64_t places = sizeof *header + header->head_len;
    uint64_t names = places + header->place_count * sizeof *patch->debug.places;
    uint64_t tail = names + header->name_count * sizeof *patch->debug.names;
    if (header->total_len != section.sh_size || tail > section.sh_size || section.sh_size - tail != header->tail_len)
        return bad(error, "debug.total_len", header->total_len, section.sh_size);
    status = check_debug_image(patch, header, error);
    struct hr_debug debug = {
        .header = header,
        .head = (const uint8_t *)header + sizeof *header,
        .places = (const void *)((const uint8_t *)header + places),
        .names = (const void *)((const uint8_t *)header + names),
        .tail = (const uint8_t *)header + tail,
    };
    if (!status)
        status = check_debug(patch, &debug, error);
    if (!status)
        patch->debug = debug;
    return status;
}

static enum hr_status check_patch(struct hr_patch *patch, struct hr_error *error) {
    Elf64_Ehdr elf;
    Elf64_Shdr section;
    enum hr_status status = check_elf(patch, &elf, error);
    if (!status)
        status = check_program_headers(patch, &elf, error);
    if (!status)
        status = find_section(patch, &elf, HR_LINK_SECTION, &section, error);
    if (!status)
        status = read_table(patch, &section, error);
    if (!status)
        status = check_header(patch, error);
    if (!status)
        status = check_segments(patch, error);
    if (!status)
        status = check_fixups(patch, error);
    if (!status)
        status = check_names(patch, error);
    if (!status)
        status = check_carried(patch, error);
    if (!status)
        status = check_functions(patch, error);
    if (!status)
        status = check_ranges(patch, error);
    if (!status)
        status = check_hooks(patch, error);
    if (!status)
        status = check_tables(patch, error);
    if (!status)
        status = check_frames(patch, error);
    if (!status)
        status = read_debug(patch, &elf, error);
    return status;
}

static enum hr_status open_buffer(uint64_t len, struct hr_patch **opened, struct hr_error *error) {
    if (!len || len > file_len_max) {
        hr_refuse(error, HR_FILE_SIZE);
        error->value = len;
        error->limit = file_len_max;
        return HR_FILE_SIZE;
    }
    struct hr_patch *patch = calloc(1, sizeof *patch);
    if (patch)
        patch->file = malloc(len);
    if (!patch || !patch->file) {
        free(patch);
        hr_refuse_call(error, HR_NO_MEMORY, "malloc", ENOMEM);
        error->length = len;
        return HR_NO_MEMORY;
    }
    patch->file_len = len;
    *opened = patch;
    return HR_OK;
}

static enum hr_status read_file(int fd, struct hr_patch *patch, struct hr_error *error) {
    size_t done = 0;
    while (done < patch->file_len) {
        ssize_t got = pread(fd, patch->file + done, patch->file_len - done, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hr_refuse_call(error, HR_FILE_READ, "pread", errno);
        if (!got)
            return truncated(error, "file", patch->file_len, done);
        done += (size_t)got;
    }
    return HR_OK;
}

static enum hr_status finish_open(struct hr_patch *opened, enum hr_status status, struct hr_patch **patch,
                                  struct hr_error *error) {
    if (!status)
        status = check_patch(opened, error);
    if (status)
        hr_patch_close(opened);
    else
        *patch = opened;
    return status;
}

enum hr_status hr_patch_open(int fd, struct hr_patch **patch, struct hr_error *error) {
    struct hr_patch *opened;
    struct stat file;
    if (fstat(fd, &file))
        return hr_refuse_call(error, HR_FILE_READ, "fstat", errno);
    if (!S_ISREG(file.st_mode))
        return hr_refuse(error, HR_FILE_KIND);
    enum hr_status status = open_buffer((uint64_t)file.st_size, &opened, error);
    if (status)
        return status;
    return finish_open(opened, read_file(fd, opened, error), patch, error);
}

enum hr_status hr_patch_parse(const void *bytes, size_t len, struct hr_patch **patch, struct hr_error *error) {
    struct hr_patch *opened;
    enum hr_status status = open_buffer(len, &opened, error);
    if (status)
        return status;
    memcpy(opened->file, bytes, len);
    return finish_open(opened, HR_OK, patch, error);
}

void hr_patch_close(struct hr_patch *patch) {
    free(patch->table);
    free(patch->file);
    free(patch);
}

void hr_patch_describe(const struct hr_patch *patch, struct hr_patch_info *info) {
    *info = (struct hr_patch_info){
        .build_id = patch->header.build_id,
        .build_id_len = patch->header.build_id_len,
        .image_len = patch->header.image_len,
        .function_count = patch->header.function_count,
        .carried_count = patch->header.carried_count,
        .range_count = patch->header.range_count,
        .hook_count = patch->header.hook_count,
        .table_count = patch->header.table_count,
        .data_escapes = (patch->header.flags & HR_LINK_DATA_ESCAPES) != 0,
    };
}

void hr_patch_function_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_function *function) {
    const struct hr_link_function *from = &patch->functions[index];
    *function = (struct hr_patch_function){
        .name = patch->strings + from->name,
        .is_carried = from->target == HR_FUNCTION_CARRIED,
        .entry = from->entry,
        .image_off = from->image_off,
    };
}

void hr_patch_carried_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_carried *carried) {
    const struct hr_link_carried *from = &patch->carried[index];
    *carried = (struct hr_patch_carried){
        .key = patch->strings + from->key,
        .is_function = (from->flags & HR_CARRIED_FUNCTION) != 0,
        .image_off = from->image_off,
        .size = from->size,
    };
}

void hr_patch_range_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_range *range) {
    const struct hr_link_range *from = &patch->ranges[index];
    *range = (struct hr_patch_range){.function = from->function, .base_off = from->base_off, .len = from->len};
}

void hr_patch_hook_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_hook *hook) {
    const struct hr_link_hook *from = &patch->hooks[index];
    *hook = (struct hr_patch_hook){
        .kind = from->kind,
        .name = patch->strings + from->name,
        .image_off = from->image_off,
    };
}

void hr_patch_table_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_table *table) {
    const struct hr_link_table *from = &patch->tables[index];
    *table = (struct hr_patch_table){
        .kind = from->kind,
        .name = patch->strings + from->name,
        .base_off = from->base_off,
        .image_off = from->image_off,
        .base_count = from->base_count,
        .count = from->count,
        .changes = patch->strings + from->changes,
    };
}
