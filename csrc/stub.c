/* stub.c: the stubs of one transition, generated near their base: code, what it reads, and its unwind table.
 *
 *    entry --jmp--> stub                                                              64 bytes each
 *                    0   64 81 3c 25 <word> <id>     cmpl  $id, %fs:word      is this thread on TO?
 *                   12   74 0f                       je    to
 *                   14   83 3d <goal> 01             cmpl  $TO, goal(%rip)
 *                   21   74 15                       je    slow               it is on FROM and should not be
 *                   23   ff 25 <from>          from: jmp   *from_body(%rip)
 *                   29   83 3d <goal> 00         to: cmpl  $FROM, goal(%rip)
 *                   36   74 06                       je    slow
 *                   38   ff 25 <to>            body: jmp   *to_body(%rip)
 *                   44   e8 <tail>             slow: call  tail
 *                   49   48 c7 44 24 f8 0..0         movq  $0, -8(%rsp)       the address in the stub is gone again
 *                   58   75 ea                       jne   body
 *                   60   eb d9                       jmp   from
 *
 *    tail            0   ff 35 <relay>               push  relay(%rip)
 *                    6   ff 25 <thunk>               jmp   *thunk(%rip)       relay.c
 *
 *    arena    | stubs, tail | bodies, relay, thunk, .eh_frame | goal |
 *               r-x           r--                               rw-      page by page, within 2 GB of the base
 *
 * At an entry nothing below the stack pointer is in use, so the stub may write there. No register is changed.
 *
 * Context: preparation. An arena is listed from its making until it is unmapped: an address in any arena on a stack
 * says that a thread is on its way into a body that nobody knows yet.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TAIL_LEN = 16, FRAMES_LEN = 96, NAME_LEN = 40 };

/* Offsets in the arena. */
struct layout {
    size_t count;
    size_t text_len;                           /* in whole pages */
    size_t tail, bodies, relay, thunk, frames; /* bodies: two addresses for each stub */
    size_t goal, len;
};

static struct hr_arena *arenas;

static struct layout lay_out(size_t count) {
    struct layout layout = {.count = count, .tail = count * HR_STUB_LEN};
    layout.text_len = hr_page_up(layout.tail + TAIL_LEN);
    layout.bodies = layout.text_len;
    layout.relay = layout.bodies + 16 * count;
    layout.thunk = layout.relay + 8;
    layout.frames = layout.thunk + 8;
    layout.goal = hr_page_up(layout.frames + FRAMES_LEN);
    layout.len = layout.goal + HR_PAGE;
    return layout;
}

static void put32(uint8_t *at, uint32_t value) {
    memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, uint64_t value) {
    memcpy(at, &value, sizeof value);
}

/* The displacement from the end of an instruction to its operand; left: what of the instruction follows it. */
static void put_rel32(uint8_t *content, size_t at, size_t target, size_t left) {
    put32(content + at, (uint32_t)(target - (at + 4 + left)));
}

static void write_stub(uint8_t *content, const struct layout *layout, size_t index, uint32_t id) {
    static const uint8_t code[HR_STUB_LEN] = {
        0x64, 0x81, 0x3c, 0x25, 0,    0,    0,    0,    0,    0,    0, 0, 0x74, 0x0f, /* cmpl, je to */
        0x83, 0x3d, 0,    0,    0,    0,    1,    0x74, 0x15,                         /* cmpl, je slow */
        0xff, 0x25, 0,    0,    0,    0,                                              /* jmp *from */
        0x83, 0x3d, 0,    0,    0,    0,    0,    0x74, 0x06,                         /* cmpl, je slow */
        0xff, 0x25, 0,    0,    0,    0,                                              /* jmp *to */
        0xe8, 0,    0,    0,    0,    0x48, 0xc7, 0x44, 0x24, 0xf8, 0, 0, 0,    0,    /* call, movq */
        0x75, 0xea, 0xeb, 0xd9, 0xcc, 0xcc,
    };
    size_t at = index * HR_STUB_LEN, bodies = layout->bodies + 16 * index;
    memcpy(content + at, code, sizeof code);
    put32(content + at + 4, (uint32_t)hr_relay_word_offset());
    put32(content + at + 8, id);
    put_rel32(content, at + 16, layout->goal, 1);
    put_rel32(content, at + 25, bodies, 0);
    put_rel32(content, at + 31, layout->goal, 1);
    put_rel32(content, at + 40, bodies + 8, 0);
    put_rel32(content, at + 45, layout->tail, 0);
}

static void write_tail(uint8_t *content, const struct layout *layout) {
    uint8_t *tail = content + layout->tail;
    memset(tail, 0xcc, layout->text_len - layout->tail);
    tail[0] = tail[6] = 0xff;
    tail[1] = 0x35;
    tail[7] = 0x25;
    put_rel32(content, layout->tail + 2, layout->relay, 0);
    put_rel32(content, layout->tail + 8, layout->thunk, 0);
}

/* In the stubs the frame is the caller's: CFA = rsp + 8. The tail is a function that pushes one word. */
static void write_frames(uint8_t *content, const struct layout *layout) {
    static const uint8_t cie[24] = {20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1};
    static const uint8_t fde[24] = {20, 0, 0, 0};
    uint8_t *at = content + layout->frames;
    memcpy(at, cie, sizeof cie);
    memcpy(at + 24, fde, sizeof fde);
    put32(at + 28, 28);
    put32(at + 32, (uint32_t)(0 - (layout->frames + 32)));
    put32(at + 36, (uint32_t)layout->tail);
    memcpy(at + 48, fde, sizeof fde);
    put32(at + 52, 52);
    put32(at + 56, (uint32_t)(layout->tail - (layout->frames + 56)));
    put32(at + 60, TAIL_LEN);
    at[65] = 0x46; /* after the push, 6 bytes on: */
    at[66] = 0x0e; /* the CFA is one word further away */
    at[67] = 16;
}

static void write_all(uint8_t *content, const struct layout *layout, const struct hr_bodies *bodies,
                      struct hr_relay *relay) {
    for (size_t i = 0; i < layout->count; i++) {
        write_stub(content, layout, i, relay->id);
        put64(content + layout->bodies + 16 * i, bodies[i].side[HR_FROM]);
        put64(content + layout->bodies + 16 * i + 8, bodies[i].side[HR_TO]);
    }
    write_tail(content, layout);
    put64(content + layout->relay, (uintptr_t)relay);
    put64(content + layout->thunk, (uintptr_t)hr_relay_thunk);
    write_frames(content, layout);
}

static enum hr_status map_part(int fd, uintptr_t address, size_t from, size_t to, int prot, struct hr_error *error) {
    int flags = MAP_PRIVATE | MAP_FIXED | (fd < 0 ? MAP_ANONYMOUS : 0);
    void *got = mmap((void *)(address + from), to - from, prot, flags, fd, fd < 0 ? 0 : (off_t)from);
    if (got != MAP_FAILED)
        return HR_OK;
    hr_refuse_call(error, HR_MAP, "mmap", errno);
    error->address = address + from;
    error->length = to - from;
    return HR_MAP;
}

/* Through a file, as generations are: never writable and executable, and with a name in the map. */
static enum hr_status map_arena(const uint8_t *content, const struct layout *layout, uintptr_t address, uint32_t id,
                                struct hr_error *error) {
    char name[NAME_LEN];
    snprintf(name, sizeof name, "hotreload:stubs.%u", id);
    int fd = hr_memfd_open(name);
    if (fd < 0)
        return hr_refuse_call(error, HR_MAP, "memfd_create", errno);
    enum hr_status status = HR_OK;
    ssize_t done = pwrite(fd, content, layout->goal, 0);
    if (done != (ssize_t)layout->goal)
        status = hr_refuse_call(error, HR_MAP, "pwrite", done < 0 ? errno : ENOSPC);
    if (!status)
        status = map_part(fd, address, 0, layout->text_len, PROT_READ | PROT_EXEC, error);
    if (!status)
        status = map_part(fd, address, layout->text_len, layout->goal, PROT_READ, error);
    if (!status)
        status = map_part(-1, address, layout->goal, layout->len, PROT_READ | PROT_WRITE, error);
    close(fd);
    return status;
}

static void name_stubs(struct hr_arena *arena, const struct layout *layout, uint32_t id) {
    struct hr_debugger_symbol *symbols = calloc(layout->count + 1, sizeof *symbols);
    char (*names)[NAME_LEN] = calloc(layout->count + 1, sizeof *names);
    for (size_t i = 0; symbols && names && i <= layout->count; i++) {
        int is_tail = i == layout->count;
        if (is_tail)
            snprintf(names[i], NAME_LEN, "stubs@hotreload.t%u", id);
        else
            snprintf(names[i], NAME_LEN, "stub%zu@hotreload.t%u", i, id);
        symbols[i] = (struct hr_debugger_symbol){names[i], arena->place.address + i * HR_STUB_LEN,
                                                 is_tail ? TAIL_LEN : HR_STUB_LEN};
    }
    if (symbols && names)
        arena->debugger = hr_debugger_open(arena->place.address, layout->tail + TAIL_LEN, arena->frames, FRAMES_LEN,
                                           symbols, layout->count + 1);
    free(symbols);
    free(names);
}

static enum hr_status fill(struct hr_arena *arena, const struct layout *layout, const struct hr_bodies *bodies,
                           struct hr_relay *relay, struct hr_error *error) {
    enum hr_status status = hr_place_open(arena->base, layout->len, NULL, NULL, &arena->place, error);
    if (status)
        return status;
    uint8_t *content = calloc(1, layout->goal);
    if (!content)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    write_all(content, layout, bodies, relay);
    status = map_arena(content, layout, arena->place.address, relay->id, error);
    free(content);
    if (status)
        return status;
    arena->text_end = arena->place.address + layout->tail + TAIL_LEN;
    arena->goal = (uint32_t *)(arena->place.address + layout->goal);
    arena->frames = arena->place.address + layout->frames;
    hr_frames_open(arena->frames);
    name_stubs(arena, layout, relay->id);
    return HR_OK;
}

enum hr_status hr_arena_open(struct hr_base *base, const struct hr_bodies *bodies, size_t count, struct hr_relay *relay,
                             struct hr_arena **arena, struct hr_error *error) {
    struct hr_arena *opened = calloc(1, sizeof *opened);
    struct layout layout = lay_out(count);
    if (!opened)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    opened->base = base;
    enum hr_status status = fill(opened, &layout, bodies, relay, error);
    if (status) {
        hr_arena_close(opened);
        return status;
    }
    hr_transition_lock();
    opened->next = arenas;
    arenas = opened;
    hr_transition_unlock();
    *arena = opened;
    return HR_OK;
}

void hr_arena_close(struct hr_arena *arena) {
    hr_transition_lock();
    for (struct hr_arena **link = &arenas; *link; link = &(*link)->next) {
        if (*link == arena) {
            *link = arena->next;
            break;
        }
    }
    hr_transition_unlock();
    hr_debugger_close(arena->debugger);
    if (arena->frames)
        hr_frames_close(arena->frames);
    if (arena->place.len)
        hr_place_close(arena->base, &arena->place);
    free(arena);
}

size_t hr_arenas_copy(struct hr_range *ranges, size_t room) {
    size_t count = 0;
    hr_transition_lock();
    for (const struct hr_arena *arena = arenas; arena; arena = arena->next) {
        if (count < room)
            ranges[count] = (struct hr_range){arena->place.address, arena->text_end};
        count++;
    }
    hr_transition_unlock();
    return count;
}
