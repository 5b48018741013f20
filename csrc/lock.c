/* lock.c: the one lock of the core, and what fork does to it.
 *
 *   thread A      lock | open pages | stores | barrier | close pages | unlock
 *   thread B                 fork: waits ..............................| fork | unlock
 *   child                                                              new lock, pages closed, batch whole
 *
 * It is held for a commit and for changes to the list of reserved spans, never while foreign code runs (constructors
 * of a library, resolvers), so a fork waits for microseconds. Were fork not to wait, the child could inherit open
 * text pages and half of a batch, and nobody to finish it.
 */
#include "internal.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void hr_lock(void) {
    pthread_mutex_lock(&mutex);
}

void hr_unlock(void) {
    pthread_mutex_unlock(&mutex);
}

static void renew_in_child(void) {
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

__attribute__((constructor)) static void register_at_fork(void) {
    /* Fails only when memory is out while the module is imported; the import then fails for the same reason. */
    (void)pthread_atfork(hr_lock, hr_unlock, renew_in_child);
}
