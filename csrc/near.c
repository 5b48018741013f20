/* near.c: address space within reach of a 32-bit displacement.
 *
 *                reach: 2 GB below the end              reach: 2 GB above the start
 *        |<----------------------------------|base|---------------------------------->|
 *   -----[    gap    ]xxxx[ gap ]xxx[reserve]|base|xxxx[ gap ]xxxxxxxx[      gap      ]-----
 *                   ^place      ^place                 ^place          ^place
 *
 * In each gap the place is the end that faces the base. The gaps are tried in order of their distance: the caller
 * says whether everything reaches from there, then the kernel is asked to map with the address as it is, never
 * over something (MAP_FIXED_NOREPLACE). Another thread may have taken it meanwhile: then the map is read again.
 *
 * A gap above the heap is filled from its far end and a gap below the stack too, so that both can still grow.
 *
 * Context: stage, outside the point of no return.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { LOST_RACES_MAX = 64 };

static const uintptr_t lowest = UINT64_C(1) << 20; /* above any mmap_min_addr in use */
static const uintptr_t highest = (UINT64_C(1) << 47) - HR_PAGE;
static const uint64_t reach = INT32_MAX;

struct candidate {
    uintptr_t address;
    uint64_t distance; /* between the outermost bytes of image and base */
};

struct search {
    uintptr_t start, end; /* the base */
    size_t len;
    struct candidate *items;
    size_t count, room;
    uint64_t nearest; /* distance of the nearest gap that fits, in reach or not */
};

int hr_rel32(uintptr_t next, uintptr_t target, int32_t *displacement) {
    int64_t difference = (int64_t)(target - next);
    if (difference < INT32_MIN || difference > INT32_MAX)
        return 0;
    *displacement = (int32_t)difference;
    return 1;
}

static int compare_distance(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return (x->distance > y->distance) - (x->distance < y->distance);
}

static enum hr_status add_candidate(struct search *search, uintptr_t address, struct hr_error *error) {
    uintptr_t low = address < search->start ? address : search->start;
    uintptr_t high = address + search->len > search->end ? address + search->len : search->end;
    uint64_t distance = high - low;
    if (distance < search->nearest)
        search->nearest = distance;
    if (distance > reach)
        return HR_OK;
    if (search->count == search->room) {
        size_t room = search->room ? 2 * search->room : 64;
        struct candidate *items = reallocarray(search->items, room, sizeof *items);
        if (!items)
            return hr_refuse_call(error, HR_NO_MEMORY, "reallocarray", errno);
        search->items = items;
        search->room = room;
    }
    search->items[search->count++] = (struct candidate){address, distance};
    return HR_OK;
}

static enum hr_status add_gap(struct search *search, uintptr_t start, uintptr_t end, int is_over_heap,
                              int is_under_stack, struct hr_error *error) {
    if (end <= start || end - start < search->len)
        return HR_OK;
    int takes_low_end = start >= search->end;
    if (is_over_heap)
        takes_low_end = 0;
    if (is_under_stack)
        takes_low_end = 1;
    return add_candidate(search, takes_low_end ? start : end - search->len, error);
}

static enum hr_status find_gaps(struct search *search, struct hr_error *error) {
    struct hr_maps maps;
    struct hr_mapping mapping;
    uintptr_t free_from = lowest;
    int is_over_heap = 0;

    search->count = 0;
    search->nearest = UINT64_MAX;
    enum hr_status status = hr_maps_open(&maps, error);
    if (status)
        return status;
    while (!status && hr_maps_next(&maps, &mapping)) {
        if (mapping.start < highest)
            status = add_gap(search, free_from, mapping.start, is_over_heap, mapping.is_stack, error);
        if (mapping.end > free_from)
            free_from = mapping.end;
        is_over_heap = mapping.is_heap;
    }
    if (!status)
        status = maps.status;
    if (!status)
        status = add_gap(search, free_from, highest, is_over_heap, 0, error);
    hr_maps_close(&maps);
    if (!status && search->count)
        qsort(search->items, search->count, sizeof *search->items, compare_distance);
    return status;
}

/* Tries the gaps in order. Sets lost_race when another thread was faster, which makes a new look worth it. */
static enum hr_status try_gaps(const struct search *search, hr_accept *accept, void *context, uintptr_t *address,
                               int *lost_race, struct hr_error *error) {
    *lost_race = 0;
    for (size_t i = 0; i < search->count; i++) {
        uintptr_t at = search->items[i].address;
        if (accept && !accept(context, at))
            continue;
        void *got = mmap((void *)at, search->len, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == (void *)at) {
            *address = at;
            return HR_OK;
        }
        if (got == MAP_FAILED && errno != EEXIST) {
            hr_refuse_call(error, errno == ENOMEM ? HR_NO_MEMORY : HR_MAP, "mmap", errno);
            error->address = at;
            error->length = search->len;
            return (enum hr_status)error->status;
        }
        if (got != MAP_FAILED) /* a kernel before 4.17 takes the address as a hint only */
            munmap(got, search->len);
        *lost_race = 1;
    }
    hr_refuse(error, HR_NO_ROOM);
    error->address = search->start;
    error->value = search->nearest;
    error->limit = reach;
    error->length = search->len;
    return HR_NO_ROOM;
}

enum hr_status hr_near_map(uintptr_t start, uintptr_t end, size_t len, hr_accept *accept, void *context,
                           uintptr_t *address, struct hr_error *error) {
    struct search search = {.start = start, .end = end, .len = len};
    enum hr_status status;
    int lost_race = 0, tries = 0;
    do {
        status = find_gaps(&search, error);
        if (!status)
            status = try_gaps(&search, accept, context, address, &lost_race, error);
    } while (status == HR_NO_ROOM && lost_race && ++tries < LOST_RACES_MAX);
    free(search.items);
    return status;
}

enum hr_status hr_base_reserve(struct hr_base *base, size_t len, size_t *reserved, struct hr_error *error) {
    uintptr_t address = 0;
    enum hr_status status = HR_OK;
    *reserved = base->reserve.end - base->reserve.start;
    if (*reserved || len < HR_PAGE)
        return HR_OK;
    /* A smaller reserve is better than none. */
    for (len = hr_page_down(len); len >= 16 * HR_PAGE; len = hr_page_down(len / 2)) {
        status = hr_near_map(base->object.start, base->object.end, len, NULL, NULL, &address, error);
        if (!status) {
            hr_lock();
            base->reserve.start = address;
            base->reserve.end = address + len;
            hr_unlock();
            *reserved = len;
            return HR_OK;
        }
    }
    return status;
}

static int is_room(uintptr_t start, uintptr_t end, size_t len, hr_accept *accept, void *context) {
    return end - start >= len && (!accept || accept(context, start));
}

/* First fit. Called under the lock; span comes from the caller, since nothing is allocated under the lock. */
static int carve(struct hr_reserve *reserve, size_t len, hr_accept *accept, void *context, struct hr_span *span) {
    struct hr_span **link = &reserve->used;
    uintptr_t from = reserve->start;
    while (*link && !is_room(from, (*link)->start, len, accept, context)) {
        from = (*link)->end;
        link = &(*link)->next;
    }
    if (!*link && !is_room(from, reserve->end, len, accept, context))
        return 0;
    *span = (struct hr_span){.next = *link, .start = from, .end = from + len};
    *link = span;
    return 1;
}

static struct hr_span *uncarve(struct hr_reserve *reserve, uintptr_t start) {
    for (struct hr_span **link = &reserve->used; *link; link = &(*link)->next) {
        if ((*link)->start == start) {
            struct hr_span *span = *link;
            *link = span->next;
            return span;
        }
    }
    return NULL;
}

enum hr_status hr_place_open(struct hr_base *base, size_t len, hr_accept *accept, void *context, struct hr_place *place,
                             struct hr_error *error) {
    struct hr_span *span = malloc(sizeof *span);
    if (!span)
        return hr_refuse_call(error, HR_NO_MEMORY, "malloc", errno);
    hr_lock();
    int is_carved = carve(&base->reserve, len, accept, context, span);
    hr_unlock();
    if (is_carved) {
        *place = (struct hr_place){.address = span->start, .len = len, .is_from_reserve = 1};
        return HR_OK;
    }
    free(span);
    uintptr_t address = 0;
    enum hr_status status = hr_near_map(base->object.start, base->object.end, len, accept, context, &address, error);
    if (!status)
        *place = (struct hr_place){.address = address, .len = len};
    return status;
}

void hr_place_close(struct hr_base *base, const struct hr_place *place) {
    if (!place->is_from_reserve) {
        munmap((void *)place->address, place->len);
        return;
    }
    /* Back to what it was: one PROT_NONE mapping over the whole span, which merges with its neighbours. Should that
     * fail, the span stays marked as used: leaked address space is harmless, a span given out twice is not. */
    void *got = mmap((void *)place->address, place->len, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (got == MAP_FAILED)
        return;
    hr_lock();
    struct hr_span *span = uncarve(&base->reserve, place->address);
    hr_unlock();
    free(span);
}
