/* commit.c: prepares a batch of redirects so that what is left to do can hardly fail, then lets poke.c do it.
 *
 *   moves --> plan: sorted by entry, encoded, in range, once each
 *                |
 *                +-- the host allows text to be opened and closed again   (probed once, on a scratch page)
 *                +-- the kernel has core sync                             (probed once)
 *                +-- the map: entries in private text, targets executable
 *                +-- every entry holds the bytes that the last commit left
 *                +-- pages opened                                          any "no" up to here: nothing has changed
 *                v
 *             poke.c
 *
 * Context: any thread, without the GIL. Memory is allocated before the lock is taken: an allocator of the host may
 * have a lock and fork handlers of its own.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct plan {
    struct hr_move *moves; /* ascending by entry */
    struct hr_poke *pokes; /* one for each move */
    uint8_t *is_found;     /* has the target of this move been seen in executable memory? */
    struct hr_page *pages; /* ascending */
    size_t count, page_count;
};

static enum hr_status refuse_entry(struct hr_error *error, enum hr_status status, uintptr_t entry, uint64_t value,
                                   uint64_t limit) {
    hr_refuse(error, status);
    error->address = entry;
    error->value = value;
    error->limit = limit;
    return status;
}

/* The order that matters is RX -> RWX -> RX with a changed page in between: what MDWE, a seccomp filter or SELinux
 * refuse of it is found out here. On live text the refusal of the way back would leave the text dead. */
static enum hr_status try_text(uint8_t *page, struct hr_error *error) {
    if (mprotect(page, HR_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
        return hr_refuse_call(error, HR_TEXT_LOCKED, "mprotect(rwx)", errno);
    page[0] = 0xcc;
    if (mprotect(page, HR_PAGE, PROT_READ | PROT_EXEC))
        return hr_refuse_call(error, HR_TEXT_LOCKED, "mprotect(r-x)", errno);
    return HR_OK;
}

enum hr_status hr_text_probe(struct hr_error *error) {
    static int has_probed;
    if (__atomic_load_n(&has_probed, __ATOMIC_ACQUIRE))
        return HR_OK;
    /* A private mapping of a file, like text; SELinux tells it from anonymous memory. */
    int fd = memfd_create("hotreload-probe", MFD_CLOEXEC);
    if (fd < 0)
        return hr_refuse_call(error, HR_TEXT_LOCKED, "memfd_create", errno);
    enum hr_status status = HR_OK;
    void *page = MAP_FAILED;
    if (!ftruncate(fd, HR_PAGE))
        page = mmap(NULL, HR_PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (page == MAP_FAILED) {
        status = hr_refuse_call(error, errno == ENOMEM ? HR_NO_MEMORY : HR_TEXT_LOCKED, "mmap(r-x)", errno);
    } else {
        status = try_text(page, error);
        munmap(page, HR_PAGE);
    }
    close(fd);
    if (!status)
        __atomic_store_n(&has_probed, 1, __ATOMIC_RELEASE);
    return status;
}

static void discard(struct plan *plan) {
    free(plan->moves);
    free(plan->pokes);
    free(plan->is_found);
    free(plan->pages);
}

static int compare_entry(const void *a, const void *b) {
    const struct hr_move *x = a, *y = b;
    return (x->site->entry > y->site->entry) - (x->site->entry < y->site->entry);
}

static enum hr_status allocate(struct plan *plan, const struct hr_move *moves, size_t count, struct hr_error *error) {
    *plan = (struct plan){.count = count};
    plan->moves = calloc(count, sizeof *plan->moves);
    plan->pokes = calloc(count, sizeof *plan->pokes);
    plan->is_found = calloc(count, sizeof *plan->is_found);
    plan->pages = calloc(count, sizeof *plan->pages);
    if (!plan->moves || !plan->pokes || !plan->is_found || !plan->pages) {
        discard(plan);
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", ENOMEM);
    }
    for (size_t i = 0; i < count; i++)
        plan->moves[i] = moves[i];
    qsort(plan->moves, count, sizeof *plan->moves, compare_entry);
    return HR_OK;
}

static enum hr_status encode(const struct hr_move *move, struct hr_poke *poke, struct hr_error *error) {
    uintptr_t entry = move->site->entry;
    int32_t displacement;
    *poke = (struct hr_poke){.site = move->site, .before = move->site->present, .after = move->site->original};
    if (!move->target)
        return HR_OK;
    if (!hr_rel32(entry + 5, move->target, &displacement))
        return refuse_entry(error, HR_OUT_OF_RANGE, entry,
                            move->target > entry ? move->target - entry : entry - move->target, INT32_MAX);
    if (move->target == entry) /* a function that jumps to itself for ever */
        return refuse_entry(error, HR_TARGET, entry, move->target, 0);
    poke->after = hr_encode_jump(displacement);
    return HR_OK;
}

static enum hr_status encode_all(struct plan *plan, struct hr_error *error) {
    enum hr_status status = HR_OK;
    for (size_t i = 0; i < plan->count && !status; i++) {
        if (i && plan->moves[i].site->entry == plan->moves[i - 1].site->entry)
            return refuse_entry(error, HR_DUPLICATE, plan->moves[i].site->entry, 0, 0);
        status = encode(&plan->moves[i], &plan->pokes[i], error);
    }
    return status;
}

/* Entries and mappings both ascend, so a page is added when its first entry is met. */
static void add_pages(struct plan *plan, size_t *next, const struct hr_mapping *mapping) {
    for (; *next < plan->count && plan->pokes[*next].site->entry < mapping->end; ++*next) {
        uintptr_t page = hr_page_down(plan->pokes[*next].site->entry);
        if (plan->page_count && plan->pages[plan->page_count - 1].address == page)
            continue;
        plan->pages[plan->page_count++] = (struct hr_page){.address = page, .prot = mapping->prot};
    }
}

static size_t find_targets(struct plan *plan, const struct hr_mapping *mapping) {
    size_t found = 0;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->moves[i].target >= mapping->start && plan->moves[i].target < mapping->end) {
            plan->is_found[i] = 1;
            found++;
        }
    }
    return found;
}

static int is_text(const struct hr_mapping *mapping) {
    const int text = HR_MAP_R | HR_MAP_X;
    return (mapping->prot & text) == text;
}

static enum hr_status check_targets(const struct plan *plan, struct hr_error *error) {
    for (size_t i = 0; i < plan->count; i++)
        if (plan->moves[i].target && !plan->is_found[i])
            return refuse_entry(error, HR_TARGET, plan->moves[i].site->entry, plan->moves[i].target, 0);
    return HR_OK;
}

/* The protections as they are found now, which is what the pages go back to. */
static enum hr_status read_map(struct plan *plan, struct hr_error *error) {
    struct hr_maps maps;
    struct hr_mapping mapping;
    size_t next = 0, found = 0, wanted = 0;
    for (size_t i = 0; i < plan->count; i++)
        wanted += plan->moves[i].target != 0;
    enum hr_status status = hr_maps_open(&maps, error);
    if (status)
        return status;
    while ((next < plan->count || found < wanted) && hr_maps_next(&maps, &mapping)) {
        if (!is_text(&mapping))
            continue;
        if (next < plan->count && plan->pokes[next].site->entry < mapping.start)
            break;
        if (mapping.is_private)
            add_pages(plan, &next, &mapping);
        found += find_targets(plan, &mapping);
    }
    hr_maps_close(&maps);
    if (maps.status)
        return maps.status;
    if (next < plan->count)
        return refuse_entry(error, HR_NOT_TEXT, plan->pokes[next].site->entry, 0, 0);
    return check_targets(plan, error);
}

static enum hr_status check_bytes(const struct plan *plan, struct hr_error *error) {
    for (size_t i = 0; i < plan->count; i++) {
        const struct hr_poke *poke = &plan->pokes[i];
        uint64_t word = __atomic_load_n((const uint64_t *)poke->site->entry, __ATOMIC_ACQUIRE);
        if ((word & 0xff) == 0xcc)
            return refuse_entry(error, HR_BREAKPOINT, poke->site->entry, word, poke->before);
        if (word != poke->before)
            return refuse_entry(error, HR_TEXT_CHANGED, poke->site->entry, word, poke->before);
    }
    return HR_OK;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

static enum hr_status commit(struct plan *plan, struct hr_commit_report *report, struct hr_error *error) {
    enum hr_status status = encode_all(plan, error); /* reads what the last commit left in the sites */
    if (!status)
        status = read_map(plan, error);
    if (!status)
        status = check_bytes(plan, error);
    uint64_t start = now();
    if (!status)
        status = hr_pages_open(plan->pages, plan->page_count, error);
    if (!status)
        status = hr_poke(plan->pokes, plan->count, plan->pages, plan->page_count, report->is_synchronised, error);
    report->nanoseconds = now() - start;
    report->pages = (uint32_t)plan->page_count;
    return status;
}

enum hr_status hr_commit(const struct hr_move *moves, size_t count, int allow_unsynchronised,
                         struct hr_commit_report *report, struct hr_error *error) {
    struct plan plan;
    *report = (struct hr_commit_report){0};
    if (!count)
        return HR_OK;
    enum hr_status status = hr_text_probe(error);
    if (status)
        return status;
    status = hr_barrier_probe(error);
    if (status && !allow_unsynchronised)
        return status;
    report->is_synchronised = status == HR_OK;
    status = allocate(&plan, moves, count, error);
    if (status)
        return status;
    hr_lock();
    status = commit(&plan, report, error);
    hr_unlock();
    discard(&plan);
    return status;
}
