/* levels_hammer.c: threads call one function without pause and count which generations they saw.
 *
 *   result   tens: the generation of A      ones: the generation of B, which A has called
 *   11, 22   one generation                 12, 21   an old caller met a new callee, or the other way round
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { THREADS_MAX = 64 };

struct counts {
    long old, new, mixed;
};

static long (*function)(void);
static _Atomic int is_over, is_ready;
static int pause_us, count;
static pthread_t threads[THREADS_MAX];
static struct counts seen[THREADS_MAX];

static void *call(void *argument) {
    struct counts *mine = argument;
    is_ready++;
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        long result = function();
        if (result == 11)
            mine->old++;
        else if (result == 22)
            mine->new++;
        else
            mine->mixed++;
        if (pause_us)
            usleep((unsigned)pause_us);
    }
    return 0;
}

static void run(long (*what)(void), int how_many) {
    function = what;
    count = how_many;
    is_over = is_ready = 0;
    for (int i = 0; i < count; i++) {
        seen[i] = (struct counts){0, 0, 0};
        pthread_create(&threads[i], 0, call, &seen[i]);
    }
    while (is_ready < count)
        usleep(100);
}

void start(long (*what)(void), int how_many) {
    pause_us = 0;
    run(what, how_many);
}

void start_calmly(long (*what)(void), int how_many) {
    pause_us = 200;
    run(what, how_many);
}

void stop(struct counts *all) {
    is_over = 1;
    *all = (struct counts){0, 0, 0};
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], 0);
        all->old += seen[i].old;
        all->new += seen[i].new;
        all->mixed += seen[i].mixed;
    }
}
