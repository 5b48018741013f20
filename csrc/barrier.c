/* barrier.c: core sync, which makes "no call that starts after commit enters the old code" true by the book.
 *
 *   committer: store ----------- membarrier(SYNC_CORE) ----------- "committed" becomes visible
 *   others:              ... each runs a serialising instruction ...      fetch the new bytes
 *
 * A thread that learns of a commit through data and then calls is the case where the processor manuals ask for a
 * serialising instruction; the kernel runs one on every core that runs a thread of this process. Whether the kernel
 * has it is decided by QUERY, REGISTER and one real call: emulators are known to answer some of them only.
 *
 * Context: the point of no return, after the first commit of the process has probed.
 */
#include "internal.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    QUERY = 0,
    PRIVATE_EXPEDITED_SYNC_CORE = 1 << 5,
    REGISTER_PRIVATE_EXPEDITED_SYNC_CORE = 1 << 6,
};

static uint64_t count;
static int has_probed;

#pragma GCC poison malloc calloc realloc free printf fprintf abort exit dlsym pthread_mutex_lock

static long membarrier(int command) {
    return syscall(SYS_membarrier, command, 0U, 0);
}

int hr_barrier_sync(void) {
    if (membarrier(PRIVATE_EXPEDITED_SYNC_CORE))
        return errno;
    __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
    return 0;
}

uint64_t hr_barrier_count(void) {
    return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

static enum hr_status refuse(struct hr_error *error, const char *call, int errnum) {
    return hr_refuse_call(error, HR_NO_SYNC, call, errnum);
}

/* Registration belongs to the address space and survives fork; a program started by exec is a new process anyway. */
enum hr_status hr_barrier_probe(struct hr_error *error) {
    if (__atomic_load_n(&has_probed, __ATOMIC_ACQUIRE))
        return HR_OK;
    long commands = membarrier(QUERY);
    if (commands < 0)
        return refuse(error, "membarrier(QUERY)", errno);
    if (!(commands & PRIVATE_EXPEDITED_SYNC_CORE))
        return refuse(error, "membarrier(QUERY)", 0);
    if (membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE))
        return refuse(error, "membarrier(REGISTER)", errno);
    int errnum = hr_barrier_sync();
    if (errnum)
        return refuse(error, "membarrier(SYNC_CORE)", errnum);
    __atomic_store_n(&has_probed, 1, __ATOMIC_RELEASE);
    return HR_OK;
}
