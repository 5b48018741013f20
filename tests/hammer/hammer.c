/* hammer.c: threads call a function without pause while its definition is changed under them.
 *
 *   writer    started = n | store definition n % 3 | committed = n      n = 1, 2, 3, ...
 *   caller    c = committed | result = f() | s = started
 *
 *   wrong     result belongs to no definition: an instruction was torn
 *   stale     result belongs to none of the definitions c .. s: the call started after commit c had returned,
 *             and yet entered an older one
 *   judged    calls with s - c < 2, of which at least one definition can be excluded; the others prove nothing
 *
 * Three ways to store: hr_commit of the core (what is tested), and two controls that must fail, or the harness is
 * blind: one 8-byte store that crosses a cache line, and eight stores of one byte.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "core.h"

enum { COMMIT, PLAIN_STORE, BYTE_STORES };

enum { THREADS_MAX = 16 };

struct hammer {
    uintptr_t entry;
    enum hr_status (*commit)(const struct hr_move *, size_t, int, struct hr_commit_report *, struct hr_error *);
    struct hr_site *site;
    uintptr_t targets[3];
    uint64_t words[3]; /* what the controls store */
    int32_t values[3]; /* what each definition returns */
    int32_t how, threads, stops_at_first;
    uint64_t flips, pause;
    /* results */
    uint64_t done, calls, judged, wrong, stale, seen[3];
    int32_t status;
};

static struct hammer *hammer;
static _Atomic uint64_t started, committed;
static _Atomic int is_over, has_failed, is_ready;

struct caller {
    pthread_t thread;
    uint64_t calls, judged, wrong, stale, seen[3];
};

static int could_be(int32_t result, uint64_t from, uint64_t to) {
    for (uint64_t n = from; n <= to; n++)
        if (hammer->values[n % 3] == result)
            return 1;
    return 0;
}

static void judge(struct caller *caller, int32_t result, uint64_t from, uint64_t to) {
    int known = -1;
    for (int i = 0; i < 3; i++)
        if (hammer->values[i] == result)
            known = i;
    if (known < 0) {
        caller->wrong++;
        has_failed = 1;
        return;
    }
    caller->seen[known]++;
    if (to - from >= 2)
        return;
    caller->judged++;
    if (!could_be(result, from, to)) {
        caller->stale++;
        has_failed = 1;
    }
}

static void *call(void *argument) {
    struct caller *caller = argument;
    int32_t (*function)(void) = (int32_t(*)(void))hammer->entry;
    is_ready++;
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        uint64_t from = atomic_load_explicit(&committed, memory_order_acquire);
        int32_t result = function();
        uint64_t to = atomic_load(&started);
        caller->calls++;
        judge(caller, result, from, to);
    }
    return 0;
}

static int store(uint64_t n) {
    volatile uint8_t *bytes = (volatile uint8_t *)hammer->entry;
    struct hr_move move = {.site = hammer->site, .target = hammer->targets[n % 3]};
    struct hr_commit_report report;
    struct hr_error error;
    uint64_t word = hammer->words[n % 3];
    switch (hammer->how) {
    case COMMIT:
        return hammer->commit(&move, 1, 0, &report, &error);
    case PLAIN_STORE:
        __asm__ volatile("movq %1, %0" : "=m"(*(volatile uint64_t *)hammer->entry) : "r"(word));
        return 0;
    default:
        for (int i = 0; i < 8; i++)
            bytes[i] = (uint8_t)(word >> 8 * i);
        return 0;
    }
}

static void flip(void) {
    for (uint64_t n = 1; n <= hammer->flips && !hammer->status; n++) {
        started = n;
        hammer->status = store(n);
        committed = n;
        hammer->done = n;
        if (hammer->stops_at_first && has_failed)
            return;
        for (uint64_t i = 0; i < hammer->pause; i++)
            __builtin_ia32_pause();
    }
}

/* Definition 0 must be in force. */
void run(struct hammer *what) {
    static struct caller callers[THREADS_MAX];
    hammer = what;
    memset(callers, 0, sizeof callers);
    started = committed = 0;
    is_over = has_failed = is_ready = 0;
    for (int i = 0; i < hammer->threads; i++)
        pthread_create(&callers[i].thread, 0, call, &callers[i]);
    while (is_ready < hammer->threads)
        __builtin_ia32_pause();
    flip();
    is_over = 1;
    for (int i = 0; i < hammer->threads; i++) {
        pthread_join(callers[i].thread, 0);
        hammer->calls += callers[i].calls;
        hammer->judged += callers[i].judged;
        hammer->wrong += callers[i].wrong;
        hammer->stale += callers[i].stale;
        for (int k = 0; k < 3; k++)
            hammer->seen[k] += callers[i].seen[k];
    }
}
