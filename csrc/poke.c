/* poke.c: the point of no return of a commit. Everything that could be refused has been refused before.
 *
 *   page of text    r-x ----> rwx --------------------------------------------------> r-x     as found
 *   page of slots   r-- ----> rw- --------------------------------------------------> r--
 *   entry or slot             | store 8 | store 8 | ... | core sync | read again |
 *                               one instruction each      one for all   insists
 *                                                         the entries
 *
 * Other threads run on the pages of text the whole time, hence rwx and not rw; those of slots they only read. When
 * something fails after the first store, every store is undone, newest first:
 *
 *   core sync fails              undo -> SYNC_FAILED     the earlier code serves
 *   a page cannot be closed      undo -> TEXT_LEFT_OPEN  the earlier code serves, the page stays writable
 *   an entry is not what we      undo the others; that one belongs to somebody else now, and restoring it over
 *   stored, or a page cannot       their bytes would be a second wrong: POISONED
 *   be opened again to undo
 *
 * Context: under the lock, with foreign code running on the bytes. No allocation, no printing, nothing that calls
 * back; an interposed function of the host could be the very function that is being patched.
 */
#include "internal.h"

#include <errno.h>
#include <sys/mman.h>

#pragma GCC poison malloc calloc realloc free printf fprintf abort exit dlsym memcpy pthread_mutex_lock

/* One mov of 8 bytes: a copy routine promises nothing about how many stores it makes. Not inlined, so that a test can
 * read in the machine code that it is one. */
static __attribute__((noinline)) void store(const struct hr_poke *poke, uint64_t word) {
    __atomic_store_n((uint64_t *)poke->site->where, word, __ATOMIC_RELEASE);
}

static uint64_t load(const struct hr_poke *poke) {
    return __atomic_load_n((const uint64_t *)poke->site->where, __ATOMIC_ACQUIRE);
}

static int close_page(const struct hr_page *page) {
    return mprotect((void *)page->address, HR_PAGE, page->closed) ? errno : 0;
}

static int open_page(const struct hr_page *page) {
    return mprotect((void *)page->address, HR_PAGE, page->open) ? errno : 0;
}

static enum hr_status refuse_page(struct hr_error *error, enum hr_status status, const struct hr_page *page,
                                  int errnum) {
    hr_refuse_call(error, status, "mprotect", errnum);
    error->address = page->address;
    return status;
}

/* All pages are opened or none is. */
enum hr_status hr_pages_open(const struct hr_page *pages, size_t count, struct hr_error *error) {
    for (size_t i = 0; i < count; i++) {
        int errnum = open_page(&pages[i]);
        if (!errnum)
            continue;
        for (size_t opened = i; opened > 0; opened--)
            close_page(&pages[opened - 1]);
        return refuse_page(error, pages[i].open & PROT_EXEC ? HR_TEXT_LOCKED : HR_SLOT_LOCKED, &pages[i], errnum);
    }
    return HR_OK;
}

/* Returns the first page that could not be closed, or count. Goes on with the others. */
static size_t close_pages(const struct hr_page *pages, size_t count, int *errnum) {
    size_t failed = count;
    for (size_t i = 0; i < count; i++) {
        int result = close_page(&pages[i]);
        if (result && failed == count) {
            failed = i;
            *errnum = result;
        }
    }
    return failed;
}

/* The first entry that does not hold what was stored, or count. */
static size_t verify(const struct hr_poke *pokes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (load(&pokes[i]) != pokes[i].after)
            return i;
    return count;
}

/* The pages are open. Returns the first entry that is not ours to undo, or count. */
static size_t undo(const struct hr_poke *pokes, size_t count) {
    size_t foreign = count;
    for (size_t i = count; i > 0; i--) {
        if (load(&pokes[i - 1]) == pokes[i - 1].after)
            store(&pokes[i - 1], pokes[i - 1].before);
        else
            foreign = i - 1;
    }
    return foreign;
}

static enum hr_status poisoned(struct hr_error *error, const struct hr_poke *poke) {
    hr_refuse(error, HR_POISONED);
    error->address = poke->site->entry;
    error->value = load(poke);
    error->limit = poke->after;
    return HR_POISONED;
}

/* Undoes everything while the pages are open; error says why and is replaced when the undo is not whole. The barrier
 * is best effort: the bytes that come back were valid all the time. */
static enum hr_status revert(const struct hr_poke *pokes, size_t count, const struct hr_page *pages, size_t page_count,
                             struct hr_error *error) {
    int ignored = 0;
    size_t foreign = undo(pokes, count);
    (void)hr_barrier_sync();
    if (foreign < count)
        poisoned(error, &pokes[foreign]);
    close_pages(pages, page_count, &ignored);
    return (enum hr_status)error->status;
}

static enum hr_status revert_closed(const struct hr_poke *pokes, size_t count, const struct hr_page *pages,
                                    size_t page_count, size_t left_open, int errnum, struct hr_error *error) {
    int ignored = 0;
    for (size_t i = 0; i < page_count; i++) {
        if (open_page(&pages[i])) { /* the very call that worked a moment ago */
            close_pages(pages, page_count, &ignored);
            return poisoned(error, &pokes[0]);
        }
    }
    refuse_page(error, HR_TEXT_LEFT_OPEN, &pages[left_open], errnum);
    return revert(pokes, count, pages, page_count, error);
}

enum hr_status hr_poke(const struct hr_poke *pokes, size_t count, const struct hr_page *pages, size_t page_count,
                       int needs_core_sync, struct hr_error *error) {
    int errnum = 0;
    for (size_t i = 0; i < count; i++)
        store(&pokes[i], pokes[i].after);
    if (needs_core_sync)
        errnum = hr_barrier_sync();
    if (errnum) {
        hr_refuse_call(error, HR_SYNC_FAILED, "membarrier(SYNC_CORE)", errnum);
        return revert(pokes, count, pages, page_count, error);
    }
    size_t foreign = verify(pokes, count);
    if (foreign < count) {
        poisoned(error, &pokes[foreign]);
        return revert(pokes, count, pages, page_count, error);
    }
    size_t left_open = close_pages(pages, page_count, &errnum);
    if (left_open < page_count)
        return revert_closed(pokes, count, pages, page_count, left_open, errnum, error);
    for (size_t i = 0; i < count; i++)
        pokes[i].site->present = pokes[i].after;
    return HR_OK;
}
