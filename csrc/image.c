/* image.c: stage and unstage, the way of a patch into the address space.
 *
 *   patch file        private image (heap)     file or memfd        address space near the base
 *   +--------+  copy  +-----------------+  write  +-------+  map    +------+--------+-------+------+
 *   |segments| -----> | + fixups        | ------> |       | ------> | R    | R X    | R     | RW   |   MAP_PRIVATE
 *   +--------+        +-----------------+         +-------+  final  +------+--------+-------+------+
 *                                                            protection; the rest of the span is PROT_NONE
 *
 * The image is complete before any of it is executable, so no page is ever writable and executable. What fails on
 * the way undoes what was done before it, in reverse; the running program has not been touched.
 *
 * Constructors are not run: the state of the base is the state. Exceptions are IRELATIVE fields, whose resolvers are
 * code of the image itself: they run last, and the page of the field is opened R -> RW -> R, never executable.
 *
 * Context: stage.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NAME_LEN = 176 };

struct hr_image {
    struct hr_base *base;
    struct hr_place place;
    struct hr_imports imports;
    uintptr_t frames; /* 0: none registered */
    struct hr_debugger *debugger;
    uint64_t mapped_len;
    uintptr_t text_start, text_end;
    uint8_t build_id[HR_BUILD_ID_LEN];
    uint32_t build_id_len;
};

_Static_assert(HR_LINK_R == PROT_READ && HR_LINK_W == PROT_WRITE && HR_LINK_X == PROT_EXEC, "used as PROT_*");

static enum hr_status check_build_id(const struct hr_patch *patch, const struct hr_base *base, struct hr_error *error) {
    if (patch->header.build_id_len == base->object.build_id_len &&
        !memcmp(patch->header.build_id, base->object.build_id, base->object.build_id_len))
        return HR_OK;
    hr_refuse(error, HR_BUILD_ID);
    hr_error_name(error, base->object.path);
    return HR_BUILD_ID;
}

static enum hr_status check_entries(const struct hr_patch *patch, const struct hr_base *base, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.function_count; i++) {
        const struct hr_link_function *function = &patch->functions[i];
        if (function->target == HR_FUNCTION_BASE && !hr_base_is_text(base, base->object.bias + function->entry)) {
            hr_refuse(error, HR_BAD_TABLE);
            hr_error_name(error, "function.entry");
            error->value = function->entry;
            return HR_BAD_TABLE;
        }
    }
    return HR_OK;
}

/* A range may begin before the entry and go on behind it, never out of the text: what is text may be scanned for. */
static enum hr_status check_ranges(const struct hr_patch *patch, const struct hr_base *base, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.range_count; i++) {
        const struct hr_link_range *range = &patch->ranges[i];
        uintptr_t first = base->object.bias + range->base_off;
        if (!hr_base_is_text(base, first) || !hr_base_is_text(base, first + range->len - 1)) {
            hr_refuse(error, HR_BAD_TABLE);
            hr_error_name(error, "range.base_off");
            error->value = range->base_off;
            error->length = range->len;
            return HR_BAD_TABLE;
        }
    }
    return HR_OK;
}

/* Ascending segments: from the start of the first that is code to the end of the last. */
static void measure_text(const struct hr_patch *patch, struct hr_image *image) {
    image->text_start = image->text_end = image->place.address;
    for (uint32_t i = 0; i < patch->header.segment_count; i++) {
        const struct hr_link_segment *segment = &patch->segments[i];
        if (!(segment->prot & HR_LINK_X))
            continue;
        if (image->text_start == image->text_end)
            image->text_start = image->place.address + segment->image_off;
        image->text_end = image->place.address + segment->image_off + segment->mem_len;
    }
}

static enum hr_status copy_segments(const struct hr_patch *patch, uint8_t **copied, struct hr_error *error) {
    uint8_t *image = calloc(1, patch->header.image_len);
    if (!image) {
        hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
        error->length = patch->header.image_len;
        return HR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < patch->header.segment_count; i++) {
        const struct hr_link_segment *segment = &patch->segments[i];
        memcpy(image + segment->image_off, patch->file + segment->file_off, segment->file_len);
    }
    *copied = image;
    return HR_OK;
}

static enum hr_status map_segments(const struct hr_patch *patch, int fd, uintptr_t address, uint64_t *mapped_len,
                                   struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.segment_count; i++) {
        const struct hr_link_segment *segment = &patch->segments[i];
        /* MAP_FIXED: over the PROT_NONE span that belongs to this image. */
        void *got = mmap((void *)(address + segment->image_off), segment->mem_len, (int)segment->prot,
                         MAP_PRIVATE | MAP_FIXED, fd, (off_t)segment->image_off);
        if (got == MAP_FAILED) {
            hr_refuse_call(error, HR_MAP, "mmap", errno);
            error->address = address + segment->image_off;
            error->length = segment->mem_len;
            return HR_MAP;
        }
        *mapped_len += hr_page_up(segment->mem_len);
    }
    return HR_OK;
}

static int is_above(void *context, uintptr_t address) {
    return address > *(const uintptr_t *)context;
}

/* gdb reads names, lines and unwind tables from a view of the whole file; a page of it costs memory when it is read.
 * Shared, so that a core dump has what is in a memfd: the kernel takes it for shared memory without a name. The view of
 * a file lies above the image: elfutils takes the lowest address at which a file is mapped for its start. */
static void show(const struct hr_genfile *file, int fd, int has_name, struct hr_image *image) {
    size_t len = hr_page_up(file->image_len + file->tail_len);
    uintptr_t start = image->place.address, end = start + image->place.len, at = 0;
    struct hr_error ignored;
    if (has_name && hr_near_map(start, end, len, is_above, &start, &at, &ignored))
        return;
    void *view = mmap((void *)at, len, PROT_READ, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
    if (view != MAP_FAILED)
        image->debugger = hr_debugger_open_file(view, file->image_len + file->tail_len);
    else if (at)
        munmap((void *)at, len);
}

static enum hr_status write_and_map(const struct hr_patch *patch, const struct hr_genfile *file, int given,
                                    const char *name, struct hr_image *image, struct hr_error *error) {
    int fd;
    enum hr_status status = hr_genfile_write(file, given, name, &fd, error);
    if (status)
        return status;
    status = map_segments(patch, fd, image->place.address, &image->mapped_len, error);
    if (!status && file->tail)
        show(file, fd, given >= 0, image);
    close(fd);
    return status;
}

static int accept_place(void *context, uintptr_t address) {
    return hr_fixups_check(context, address) == HR_OK;
}

/* When no gap is accepted although some are in reach, the reason is the reference that does not reach, not the room. */
static enum hr_status open_place(const struct hr_binding *binding, struct hr_image *image) {
    const uint64_t len = binding->patch->header.image_len;
    struct hr_error refusal;
    struct hr_binding probe = *binding;
    probe.error = &refusal;
    hr_refuse(&refusal, HR_OK);
    enum hr_status status = hr_place_open(image->base, len, accept_place, &probe, &image->place, binding->error);
    if (status == HR_NO_ROOM && refusal.status != HR_OK) {
        *binding->error = refusal;
        status = (enum hr_status)refusal.status;
    }
    return status;
}

static const char *number_of(const char *label) {
    return strrchr(label, '.') ? strrchr(label, '.') + 1 : label;
}

static enum hr_status fill(const struct hr_binding *binding, const char *name, int fd, struct hr_image *image) {
    struct hr_genfile file = {.image_len = binding->patch->header.image_len};
    enum hr_status status = copy_segments(binding->patch, &file.image, binding->error);
    if (status)
        return status;
    status = hr_fixups_apply(binding, image->place.address, file.image);
    if (!status)
        status = hr_genfile_fill(binding, image->place.address, number_of(name), &file);
    if (!status)
        status = write_and_map(binding->patch, &file, fd, name, image, binding->error);
    image->build_id_len = file.build_id_len;
    memcpy(image->build_id, file.build_id, sizeof image->build_id);
    hr_genfile_close(&file);
    if (!status)
        status = hr_fixups_finish(binding, image->place.address);
    return status;
}

/* Does an earlier table begin at the same place, or go on there? A table without entries has the empty one. */
static int has_overlap(const struct hr_patch *patch, uint32_t index) {
    const struct hr_link_table *table = &patch->tables[index];
    for (uint32_t i = 0; i < index; i++) {
        const struct hr_link_table *other = &patch->tables[i];
        uint64_t len = (table->base_count + UINT64_C(1)) * hr_table_entry_len(table->kind);
        uint64_t other_len = (other->base_count + UINT64_C(1)) * hr_table_entry_len(other->kind);
        if (table->base_off < other->base_off ? other->base_off - table->base_off < len
                                              : table->base_off - other->base_off < other_len)
            return 1;
    }
    return 0;
}

/* The live table is to be written to: it must be data of the base, at the place that a table has, and no other's. */
static enum hr_status check_tables(const struct hr_patch *patch, const struct hr_base *base, struct hr_error *error) {
    for (uint32_t i = 0; i < patch->header.table_count; i++) {
        const struct hr_link_table *table = &patch->tables[i];
        uint64_t len = table->base_count * hr_table_entry_len(table->kind);
        uintptr_t at = base->object.bias + table->base_off;
        if (at % sizeof(uintptr_t) || !hr_base_is_data(base, at, len) || has_overlap(patch, i)) {
            hr_refuse(error, HR_BAD_TABLE);
            hr_error_name(error, "table.base_off");
            error->value = table->base_off;
            error->length = len;
            return HR_BAD_TABLE;
        }
    }
    return HR_OK;
}

/* Where the patch has no debug part. "score" of the generation "hotreload:shop.3" is score@hotreload.g3: gdb would take
 * a number alone for a suffix of Ada and leave it out. A function's length is not in the table: it ends where the next
 * one begins. */
static void name_functions(const struct hr_patch *patch, const char *label, struct hr_image *image) {
    const struct hr_link_header *header = &patch->header;
    struct hr_debugger_symbol *symbols = calloc(header->function_count + 1, sizeof *symbols);
    char (*names)[NAME_LEN] = calloc(header->function_count + 1, sizeof *names);
    for (uint32_t i = 0; symbols && names && i < header->function_count; i++) {
        uint64_t start = patch->functions[i].image_off, end = header->image_len;
        for (uint32_t k = 0; k < header->function_count; k++)
            if (patch->functions[k].image_off > start && patch->functions[k].image_off < end)
                end = patch->functions[k].image_off;
        for (uint32_t k = 0; k < header->segment_count; k++) {
            uint64_t last = patch->segments[k].image_off + patch->segments[k].mem_len;
            if (last > start && last < end)
                end = last;
        }
        snprintf(names[i], NAME_LEN, "%.120s@hotreload.g%.30s", patch->strings + patch->functions[i].name,
                 number_of(label));
        symbols[i] = (struct hr_debugger_symbol){names[i], image->place.address + start, end - start};
    }
    if (symbols && names)
        image->debugger = hr_debugger_open(image->place.address, image->place.len, image->frames,
                                           image->frames ? header->eh_frame_len : 0, symbols, header->function_count);
    free(symbols);
    free(names);
}

static enum hr_status stage(struct hr_binding *binding, const char *name, int fd, struct hr_image *image) {
    const struct hr_link_header *header = &binding->patch->header;
    struct hr_objects objects;
    enum hr_status status = hr_imports_open(binding->patch, image->base, &image->imports, binding->error);
    if (status)
        return status;
    status = hr_objects_open(&objects, binding->error); /* after the imports: they may have loaded libraries */
    if (status)
        return status;
    binding->imports = &image->imports;
    binding->objects = &objects;
    status = open_place(binding, image);
    if (!status)
        status = fill(binding, name, fd, image);
    hr_objects_close(&objects);
    if (!status)
        measure_text(binding->patch, image);
    if (!status && header->eh_frame) {
        image->frames = image->place.address + header->eh_frame;
        hr_frames_open(image->frames);
    }
    if (!status && !image->debugger)
        name_functions(binding->patch, name, image);
    return status;
}

enum hr_status hr_image_stage(const struct hr_patch *patch, struct hr_base *base, const uintptr_t *carried,
                              const char *name, int fd, struct hr_image **image, struct hr_error *error) {
    enum hr_status status = check_build_id(patch, base, error);
    if (!status)
        status = check_entries(patch, base, error);
    if (!status)
        status = check_ranges(patch, base, error);
    if (!status)
        status = check_tables(patch, base, error);
    if (status)
        return status;
    struct hr_image *opened = calloc(1, sizeof *opened);
    if (!opened)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    opened->base = base;
    struct hr_binding binding = {.patch = patch, .base = base, .carried = carried, .error = error};
    status = stage(&binding, name, fd, opened);
    if (status)
        hr_image_unstage(opened, 0);
    else
        *image = opened;
    return status;
}

void hr_image_unstage(struct hr_image *image, int has_run) {
    hr_debugger_close(image->debugger);
    if (image->frames)
        hr_frames_close(image->frames);
    if (image->place.len)
        hr_place_close(image->base, &image->place);
    hr_imports_close(&image->imports, has_run);
    free(image);
}

void hr_image_describe(const struct hr_image *image, struct hr_image_info *info) {
    const struct hr_object *base = &image->base->object;
    uintptr_t start = image->place.address, end = start + image->place.len;
    *info = (struct hr_image_info){
        .address = start,
        .len = image->place.len,
        .mapped_len = image->mapped_len,
        .distance = end <= base->start ? base->start - end : start - base->end,
        .is_from_reserve = image->place.is_from_reserve,
        .text_start = image->text_start,
        .text_end = image->text_end,
        .build_id_len = image->build_id_len,
    };
    memcpy(info->build_id, image->build_id, sizeof info->build_id);
}
