/* workers.c: threads of the host, for the tests of transitions. They know nothing of the core.
 *
 * A worker calls its function until it is told to stop and counts the answers; what it is asked to do in between is
 * said by the function itself, through the gates below.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <time.h>
#include <unistd.h>

enum { ANSWERS = 128 };

struct worker {
    pthread_t thread;
    long (*function)(void);
    _Atomic int tid, is_over;
    _Atomic uint64_t calls;
    _Atomic uint64_t answers[ANSWERS];
};

static void *work(void *argument) {
    struct worker *worker = argument;
    worker->tid = (int)syscall(SYS_gettid);
    while (!worker->is_over) {
        unsigned long answer = (unsigned long)worker->function();
        atomic_fetch_add_explicit(&worker->answers[answer % ANSWERS], 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&worker->calls, 1, memory_order_relaxed);
    }
    return 0;
}

struct worker *worker_start(long (*function)(void)) {
    struct worker *worker = calloc(1, sizeof *worker);
    worker->function = function;
    pthread_create(&worker->thread, 0, work, worker);
    while (!worker->tid)
        sched_yield();
    return worker;
}

int worker_tid(struct worker *worker) {
    return worker->tid;
}

uint64_t worker_calls(struct worker *worker) {
    return worker->calls;
}

uint64_t worker_answers(struct worker *worker, int answer) {
    return worker->answers[answer];
}

void worker_tell(struct worker *worker) {
    worker->is_over = 1;
}

void worker_stop(struct worker *worker) {
    worker->is_over = 1;
    pthread_join(worker->thread, 0);
}

/* One call, made by a thread of its own when the gate opens. */
struct once {
    pthread_t thread;
    long (*function)(void);
    sem_t gate;
    _Atomic int tid, is_done;
    long answer;
};

static void *do_once(void *argument) {
    struct once *once = argument;
    once->tid = (int)syscall(SYS_gettid);
    for (;;) {
        while (sem_wait(&once->gate))
            continue;
        if (!once->function)
            return 0;
        long (*volatile pointer)(void) = once->function;
        once->answer = pointer();
        once->is_done = 1;
    }
}

struct once *once_start(long (*function)(void)) {
    struct once *once = calloc(1, sizeof *once);
    once->function = function;
    sem_init(&once->gate, 0, 0);
    pthread_create(&once->thread, 0, do_once, once);
    while (!once->tid)
        sched_yield();
    return once;
}

int once_tid(struct once *once) {
    return once->tid;
}

void once_go(struct once *once) {
    once->is_done = 0;
    sem_post(&once->gate);
}

int once_is_done(struct once *once) {
    return once->is_done;
}

long once_answer(struct once *once) {
    return once->answer;
}

void once_stop(struct once *once) {
    once->function = 0;
    sem_post(&once->gate);
    pthread_join(once->thread, 0);
}

/* Many short-lived threads, one after the other: how many of them got this answer. */
static void *call_once(void *argument) {
    return (void *)((long (*)(void))argument)();
}

long churn(long (*function)(void), long count, long answer) {
    long same = 0;
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        void *got = 0;
        if (pthread_create(&thread, 0, call_once, (void *)function))
            return -1;
        pthread_join(thread, &got);
        same += (long)got == answer;
    }
    return same;
}

/* Signals: a handler that calls a function which is being changed. */
static long (*in_handler)(void);
static _Atomic uint64_t handled[ANSWERS];

static void handle(int number) {
    (void)number;
    unsigned long answer = (unsigned long)in_handler();
    atomic_fetch_add_explicit(&handled[answer % ANSWERS], 1, memory_order_relaxed);
}

void storm_start(long (*function)(void), int microseconds) {
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    struct itimerval every = {{0, microseconds}, {0, microseconds}};
    in_handler = function;
    memset(handled, 0, sizeof handled);
    sigaction(SIGALRM, &action, 0);
    setitimer(ITIMER_REAL, &every, 0);
}

void storm_stop(void) {
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, 0);
    signal(SIGALRM, SIG_IGN);
}

uint64_t storm_answers(int answer) {
    return handled[answer];
}

/* Foreign stacks. */
static long foreign_answer;

static void on_other_stack(int number) {
    (void)number;
    foreign_answer = in_handler();
}

long call_on_signal_stack(long (*function)(void)) {
    static __thread char *memory;
    if (!memory)
        memory = malloc(256 * 1024);
    stack_t stack = {.ss_sp = memory, .ss_size = 256 * 1024}, before;
    struct sigaction action = {.sa_handler = on_other_stack, .sa_flags = SA_ONSTACK};
    in_handler = function;
    sigaltstack(&stack, &before);
    sigaction(SIGUSR1, &action, 0);
    pthread_kill(pthread_self(), SIGUSR1);
    sigaltstack(&before, 0);
    return foreign_answer;
}

static ucontext_t main_context, coroutine_context;
static long (*in_coroutine)(void);

static void coroutine(void) {
    volatile char depth[8192]; /* or a look at the stack meets its end at once */
    depth[0] = 0;
    foreign_answer = in_coroutine() + depth[0];
}

long call_in_coroutine(long (*function)(void)) {
    char *memory = malloc(256 * 1024);
    in_coroutine = function;
    getcontext(&coroutine_context);
    coroutine_context.uc_stack.ss_sp = memory;
    coroutine_context.uc_stack.ss_size = 256 * 1024;
    coroutine_context.uc_link = &main_context;
    makecontext(&coroutine_context, coroutine, 0);
    swapcontext(&main_context, &coroutine_context);
    free(memory);
    return foreign_answer;
}

/* A coroutine that is left in the middle of a call: by coroutine_pause, which it reaches through a pointer. Taken up
 * again it calls a function, if there is one, and is left once more. The first unmaps its stack at its end. */
enum { STACK = 256 * 1024 };
static long (*in_pause)(void);
static char *stacks;

void coroutine_pause(void) {
    swapcontext(&coroutine_context, &main_context);
    if (in_pause) {
        in_pause();
        swapcontext(&coroutine_context, &main_context);
    }
}

/* Two stacks with nothing between them; number 1 is above number 0. */
void coroutine_start(long (*function)(void), int number) {
    if (!stacks) {
        stacks = mmap(0, 4 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(stacks + STACK, STACK);
        munmap(stacks + 3 * STACK, STACK);
    }
    in_coroutine = function;
    getcontext(&coroutine_context);
    coroutine_context.uc_stack.ss_sp = stacks + 2 * number * STACK;
    coroutine_context.uc_stack.ss_size = STACK;
    coroutine_context.uc_link = &main_context;
    makecontext(&coroutine_context, coroutine, 0);
    swapcontext(&main_context, &coroutine_context);
}

void coroutine_go(long (*function)(void)) {
    in_pause = function;
    swapcontext(&main_context, &coroutine_context);
}

long coroutine_end(int number) {
    munmap(stacks + 2 * number * STACK, STACK);
    return foreign_answer;
}

/* Time, in nanoseconds per call. */
double time_calls(long (*function)(void), long count) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (long i = 0; i < count; i++)
        function();
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (double)count;
}
