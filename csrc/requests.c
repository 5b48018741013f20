/* requests.c: who is inside a request.
 *
 *   thread --own--> slot { depth, tid } <--handle-- whoever leaves       list of all slots: the driver looks there
 *
 * A slot belongs to a thread until the thread ends. Should it end inside a request, the slot waits for the one who
 * leaves, then it is free for another thread. Slots are never unmapped, so a handle is always good to be left.
 *
 * Entering and leaving are the moments when a thread that serves is sure to have nothing open: it tries to go over.
 *
 * Context: normal, called by the host through Python.
 */
#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct hr_request *requests; /* only grows */
static pthread_key_t key;
static int has_key;

static void free_orphan(struct hr_request *request) {
    uint32_t orphan = UINT32_MAX;
    (void)__atomic_compare_exchange_n(&request->tid, &orphan, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* The depth is looked at after the thread let go, the thread after the depth fell: one of the two sees the other. */
static void release(void *argument) {
    struct hr_request *request = argument;
    hr_relay_set_request(NULL);
    __atomic_store_n(&request->tid, UINT32_MAX, __ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&request->depth, __ATOMIC_SEQ_CST))
        free_orphan(request);
}

__attribute__((constructor)) static void make_key(void) {
    has_key = !pthread_key_create(&key, release);
}

static struct hr_request *take_free(uint32_t tid) {
    for (struct hr_request *at = __atomic_load_n(&requests, __ATOMIC_ACQUIRE); at; at = at->next) {
        uint32_t expected = 0;
        if (__atomic_compare_exchange_n(&at->tid, &expected, tid, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return at;
    }
    return NULL;
}

static struct hr_request *make(uint32_t tid) {
    struct hr_request *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->tid = tid;
    made->next = __atomic_load_n(&requests, __ATOMIC_ACQUIRE);
    while (!__atomic_compare_exchange_n(&requests, &made->next, made, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        continue;
    return made;
}

static struct hr_request *own(void) {
    struct hr_request *request = hr_relay_request();
    if (request)
        return request;
    uint32_t tid = (uint32_t)syscall(SYS_gettid);
    request = take_free(tid);
    if (!request)
        request = make(tid);
    if (request && (!has_key || pthread_setspecific(key, request))) {
        __atomic_store_n(&request->tid, 0, __ATOMIC_SEQ_CST);
        return NULL;
    }
    hr_relay_set_request(request);
    return request;
}

enum hr_status hr_request_enter(struct hr_request **entered, struct hr_error *error) {
    struct hr_request *request = own();
    if (!request)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", ENOMEM);
    if (!__atomic_load_n(&request->depth, __ATOMIC_SEQ_CST))
        hr_relay_visit((uintptr_t)__builtin_frame_address(0) + 8);
    __atomic_add_fetch(&request->depth, 1, __ATOMIC_SEQ_CST);
    *entered = request;
    return HR_OK;
}

void hr_request_leave(struct hr_request *request) {
    uint32_t depth = __atomic_load_n(&request->depth, __ATOMIC_SEQ_CST);
    do {
        if (!depth) /* fork has ended it: whoever was to leave it is not in this process */
            return;
    } while (!__atomic_compare_exchange_n(&request->depth, &depth, depth - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (depth > 1)
        return;
    free_orphan(request);
    if (request == hr_relay_request())
        hr_relay_visit((uintptr_t)__builtin_frame_address(0) + 8);
}

uint64_t hr_request_count(void) {
    uint64_t count = 0;
    for (const struct hr_request *at = __atomic_load_n(&requests, __ATOMIC_ACQUIRE); at; at = at->next)
        count += __atomic_load_n(&at->depth, __ATOMIC_SEQ_CST);
    return count;
}

int hr_request_is_open(uint32_t tid) {
    for (const struct hr_request *at = __atomic_load_n(&requests, __ATOMIC_ACQUIRE); at; at = at->next)
        if (__atomic_load_n(&at->tid, __ATOMIC_SEQ_CST) == tid && __atomic_load_n(&at->depth, __ATOMIC_SEQ_CST))
            return 1;
    return 0;
}

/* In the child: the threads of the others are not there, and nobody leaves for them who is not here. */
void hr_requests_after_fork(void) {
    struct hr_request *mine = hr_relay_request();
    for (struct hr_request *at = requests; at; at = at->next) {
        if (at == mine)
            continue;
        at->depth = 0;
        at->tid = 0;
    }
    if (mine)
        mine->tid = (uint32_t)syscall(SYS_gettid);
}
