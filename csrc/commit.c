/* commit.c: prepares a batch of redirects so that what is left to do can hardly fail, then lets poke.c do it.
 *
 *   moves --> plan: sorted by what is stored, encoded, in range, once each
 *                |
 *                |   where a jump is among them:
 *                +-- the host allows text to be opened and closed again   (probed once, on a scratch page)
 *                +-- the kernel has core sync                             (probed once)
 *                |   for all of them:
 *                +-- the map: entries in text, jumps and slots in private memory, targets executable
 *                +-- every entry and every slot holds what the last commit left
 *                +-- pages opened                                          any "no" up to here: nothing has changed
 *                v
 *             poke.c
 *
 * A slot is 8 aligned bytes of data: one store changes it, each core jumps to what it loads, no instruction changes.
 * Closing its page is a system call that drains the store: no core sync is needed before "committed" is said.
 *
 * Context: any thread, without the GIL. Memory is allocated before the lock is taken: an allocator of the host may
 * have a lock and fork handlers of its own.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif

enum { TARGET_SEEN = 1, ENTRY_SEEN = 2 };

struct plan {
    struct hr_move *moves; /* ascending by what is stored */
    struct hr_poke *pokes; /* one for each move */
    uint8_t *seen;         /* what of this move has been met in executable memory: *_SEEN */
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
static enum hr_status write_text(uint64_t *page, uint64_t code, struct hr_error *error) {
    if (mprotect(page, HR_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC))
        return hr_refuse_call(error, HR_TEXT_LOCKED, "mprotect(rwx)", errno);
    __atomic_store_n(page, code, __ATOMIC_RELEASE);
    if (mprotect(page, HR_PAGE, PROT_READ | PROT_EXEC))
        return hr_refuse_call(error, HR_TEXT_LOCKED, "mprotect(r-x)", errno);
    return HR_OK;
}

static uint64_t returning(uint32_t number) { /* b8 n0 n1 n2 n3 c3   mov $number, %eax; ret */
    return UINT64_C(0xccccc300000000b8) | (uint64_t)number << 8;
}

static uint32_t call_text(const uint64_t *page) {
    return ((uint32_t (*)(void))(uintptr_t)page)();
}

/* Valgrind, and whatever else runs a translation of the code, may go on with the old one after the text has changed:
 * a function is called, changed and called again. */
static enum hr_status try_text(uint64_t *page, struct hr_error *error) {
    enum hr_status status = write_text(page, returning(1), error);
    if (status)
        return status;
    uint32_t first = call_text(page);
    status = write_text(page, returning(2), error);
    if (status)
        return status;
    return first == 1 && call_text(page) == 2 ? HR_OK : hr_refuse(error, HR_TRANSLATED);
}

enum hr_status hr_text_probe(struct hr_error *error) {
    static int has_probed;
    if (__atomic_load_n(&has_probed, __ATOMIC_ACQUIRE))
        return HR_OK;
    /* A private mapping of a file, like text; SELinux tells it from anonymous memory. */
    int fd = hr_memfd_open("hotreload-probe");
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

int hr_is_write_execute_denied(void) {
    return prctl(PR_GET_MDWE, 0, 0, 0, 0) > 0; /* kernels before 6.3 do not know the question */
}

enum hr_status hr_slot_probe(struct hr_error *error) {
    uint64_t *page = mmap(NULL, HR_PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return hr_refuse_call(error, HR_NO_MEMORY, "mmap", errno);
    enum hr_status status = HR_OK;
    if (mprotect(page, HR_PAGE, PROT_READ | PROT_WRITE))
        status = hr_refuse_call(error, HR_SLOT_LOCKED, "mprotect(rw-)", errno);
    else if (mprotect(page, HR_PAGE, PROT_READ))
        status = hr_refuse_call(error, HR_SLOT_LOCKED, "mprotect(r--)", errno);
    munmap(page, HR_PAGE);
    return status;
}

static void discard(struct plan *plan) {
    free(plan->moves);
    free(plan->pokes);
    free(plan->seen);
    free(plan->pages);
}

static int compare_where(const void *a, const void *b) {
    const struct hr_move *x = a, *y = b;
    return (x->site->where > y->site->where) - (x->site->where < y->site->where);
}

static enum hr_status allocate(struct plan *plan, const struct hr_move *moves, size_t count, struct hr_error *error) {
    *plan = (struct plan){.count = count};
    plan->moves = calloc(count, sizeof *plan->moves);
    plan->pokes = calloc(count, sizeof *plan->pokes);
    plan->seen = calloc(count, sizeof *plan->seen);
    plan->pages = calloc(count, sizeof *plan->pages);
    if (!plan->moves || !plan->pokes || !plan->seen || !plan->pages) {
        discard(plan);
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", ENOMEM);
    }
    for (size_t i = 0; i < count; i++)
        plan->moves[i] = moves[i];
    qsort(plan->moves, count, sizeof *plan->moves, compare_where);
    return HR_OK;
}

static enum hr_status encode(const struct hr_move *move, struct hr_poke *poke, struct hr_error *error) {
    uintptr_t entry = move->site->entry;
    int32_t displacement;
    *poke = (struct hr_poke){.site = move->site, .before = move->site->present, .after = move->site->original};
    if (!move->target)
        return HR_OK;
    if (move->target == entry) /* a function that jumps to itself for ever */
        return refuse_entry(error, HR_TARGET, entry, move->target, 0);
    poke->after = move->target;
    if (move->site->kind == HR_SITE_SLOT)
        return HR_OK;
    if (!hr_rel32(entry + 5, move->target, &displacement))
        return refuse_entry(error, HR_OUT_OF_RANGE, entry,
                            move->target > entry ? move->target - entry : entry - move->target, INT32_MAX);
    poke->after = hr_encode_jump(displacement);
    return HR_OK;
}

static enum hr_status encode_all(struct plan *plan, struct hr_error *error) {
    enum hr_status status = HR_OK;
    for (size_t i = 0; i < plan->count && !status; i++) {
        if (i && plan->moves[i].site->where == plan->moves[i - 1].site->where)
            return refuse_entry(error, HR_DUPLICATE, plan->moves[i].site->entry, 0, 0);
        status = encode(&plan->moves[i], &plan->pokes[i], error);
    }
    return status;
}

static int is_text(const struct hr_mapping *mapping) {
    const int text = HR_MAP_R | HR_MAP_X;
    return (mapping->prot & text) == text;
}

static int is_home(const struct hr_mapping *mapping, const struct hr_site *site) {
    if (!mapping->is_private)
        return 0;
    return site->kind == HR_SITE_JUMP ? is_text(mapping) : (mapping->prot & (HR_MAP_R | HR_MAP_X)) == HR_MAP_R;
}

/* Stores and mappings both ascend, so a page is added when its first store is met. */
static void add_pages(struct plan *plan, size_t *next, const struct hr_mapping *mapping) {
    for (; *next < plan->count; ++*next) {
        const struct hr_site *site = plan->pokes[*next].site;
        uintptr_t page = hr_page_down(site->where);
        if (site->where < mapping->start || site->where >= mapping->end || !is_home(mapping, site))
            return;
        if (plan->page_count && plan->pages[plan->page_count - 1].address == page)
            continue;
        int closed = site->kind == HR_SITE_JUMP ? mapping->prot : PROT_READ;
        plan->pages[plan->page_count++] = (struct hr_page){page, closed | PROT_WRITE, closed};
    }
}

static int is_in(uintptr_t address, const struct hr_mapping *mapping) {
    return address >= mapping->start && address < mapping->end;
}

/* Returns how many of the addresses are in this mapping. */
static size_t see(struct plan *plan, const struct hr_mapping *mapping) {
    size_t found = 0;
    for (size_t i = 0; i < plan->count; i++) {
        int has_target = is_in(plan->moves[i].target, mapping), has_entry = is_in(plan->moves[i].site->entry, mapping);
        plan->seen[i] |= (uint8_t)(has_target * TARGET_SEEN | has_entry * ENTRY_SEEN);
        found += (size_t)(has_target + has_entry);
    }
    return found;
}

static enum hr_status check_seen(const struct plan *plan, struct hr_error *error) {
    for (size_t i = 0; i < plan->count; i++)
        if (!(plan->seen[i] & ENTRY_SEEN))
            return refuse_entry(error, HR_NOT_TEXT, plan->moves[i].site->entry, 0, 0);
    for (size_t i = 0; i < plan->count; i++)
        if (plan->moves[i].target && !(plan->seen[i] & TARGET_SEEN))
            return refuse_entry(error, HR_TARGET, plan->moves[i].site->entry, plan->moves[i].target, 0);
    return HR_OK;
}

static enum hr_status refuse_home(const struct hr_site *site, struct hr_error *error) {
    return refuse_entry(error, site->kind == HR_SITE_JUMP ? HR_NOT_TEXT : HR_NOT_A_SLOT, site->entry, 0, 0);
}

/* The protections as they are found now, which is what the pages of text go back to. */
static enum hr_status read_map(struct plan *plan, struct hr_error *error) {
    struct hr_maps maps;
    struct hr_mapping mapping;
    size_t next = 0, found = 0, wanted = plan->count;
    for (size_t i = 0; i < plan->count; i++)
        wanted += plan->moves[i].target != 0;
    enum hr_status status = hr_maps_open(&maps, error);
    if (status)
        return status;
    while ((next < plan->count || found < wanted) && hr_maps_next(&maps, &mapping)) {
        add_pages(plan, &next, &mapping);
        if (is_text(&mapping))
            found += see(plan, &mapping);
    }
    hr_maps_close(&maps);
    if (maps.status)
        return maps.status;
    if (next < plan->count)
        return refuse_home(plan->pokes[next].site, error);
    return check_seen(plan, error);
}

static enum hr_status check_bytes(const struct plan *plan, struct hr_error *error) {
    for (size_t i = 0; i < plan->count; i++) {
        const struct hr_poke *poke = &plan->pokes[i];
        const struct hr_site *site = poke->site;
        uint64_t word = __atomic_load_n((const uint64_t *)site->entry, __ATOMIC_ACQUIRE);
        if (site->kind == HR_SITE_JUMP && (word & 0xff) == 0xcc)
            return refuse_entry(error, HR_BREAKPOINT, site->entry, word, poke->before);
        if (!hr_site_is_as_opened(site, word))
            return refuse_entry(error, HR_TEXT_CHANGED, site->entry, word, hr_site_entry_word(site));
        uint64_t value = __atomic_load_n((const uint64_t *)site->where, __ATOMIC_ACQUIRE);
        if (value != poke->before)
            return refuse_entry(error, HR_TEXT_CHANGED, site->entry, value, poke->before);
    }
    return HR_OK;
}

static int has_jumps(const struct hr_move *moves, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (moves[i].site->kind == HR_SITE_JUMP)
            return 1;
    return 0;
}

static enum hr_status commit(struct plan *plan, struct hr_commit_report *report, struct hr_error *error) {
    enum hr_status status = encode_all(plan, error); /* reads what the last commit left in the sites */
    if (!status)
        status = read_map(plan, error);
    if (!status)
        status = check_bytes(plan, error);
    uint64_t start = hr_now();
    if (!status)
        status = hr_pages_open(plan->pages, plan->page_count, error);
    int needs_core_sync = report->is_synchronised && has_jumps(plan->moves, plan->count);
    if (!status)
        status = hr_poke(plan->pokes, plan->count, plan->pages, plan->page_count, needs_core_sync, error);
    report->nanoseconds = hr_now() - start;
    report->pages = (uint32_t)plan->page_count;
    return status;
}

/* Slots need nothing of the host: they are data, and synchronised as they are. */
static enum hr_status check_host(const struct hr_move *moves, size_t count, int allow_unsynchronised,
                                 struct hr_commit_report *report, struct hr_error *error) {
    report->is_synchronised = 1;
    if (!has_jumps(moves, count))
        return HR_OK;
    enum hr_status status = hr_text_probe(error);
    if (status)
        return status;
    status = hr_barrier_probe(error);
    report->is_synchronised = status == HR_OK;
    return allow_unsynchronised ? HR_OK : status;
}

enum hr_status hr_commit(const struct hr_move *moves, size_t count, int allow_unsynchronised,
                         struct hr_commit_report *report, struct hr_error *error) {
    struct plan plan;
    *report = (struct hr_commit_report){0};
    if (!count)
        return HR_OK;
    enum hr_status status = check_host(moves, count, allow_unsynchronised, report, error);
    if (status)
        return status;
    status = allocate(&plan, moves, count, error);
    if (status)
        return status;
    hr_lock();
    status = commit(&plan, report, error);
    hr_unlock();
    discard(&plan);
    return status;
}
