/* lock.c: the locks of the core, and what fork does to it.
 *
 *   thread A      lock | open pages | stores | barrier | close pages | unlock
 *   thread B                 fork: waits ..............................| fork | unlock
 *   child                                                              new lock, pages closed, batch whole
 *
 * It is held for a commit and for changes to the list of reserved spans, never while foreign code runs (constructors
 * of a library, resolvers), so a fork waits for microseconds. Were fork not to wait, the child could inherit open
 * text pages and half of a batch, and nobody to finish it.
 *
 * The lock of the transition is the outer one: it is held while threads are looked at, one of them where somebody is in
 * a hurry, and not for a commit. What the child inherits of a transition is whole, and its own.
 */
#include "internal.h"

#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t transition_mutex = PTHREAD_MUTEX_INITIALIZER;

void hr_lock(void) {
    pthread_mutex_lock(&mutex);
}

void hr_unlock(void) {
    pthread_mutex_unlock(&mutex);
}

void hr_transition_lock(void) {
    pthread_mutex_lock(&transition_mutex);
}

void hr_transition_unlock(void) {
    pthread_mutex_unlock(&transition_mutex);
}

static void before_fork(void) {
    hr_transition_hurry();
    hr_transition_lock();
    hr_lock();
    hr_transition_before_fork();
}

static void after_fork(void) {
    hr_unlock();
    hr_transition_unlock();
    hr_transition_relax();
}

static void renew_in_child(void) {
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    transition_mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    hr_transition_after_fork();
}

__attribute__((constructor)) static void register_at_fork(void) {
    /* Fails only when memory is out while the module is imported; the import then fails for the same reason. */
    (void)pthread_atfork(before_fork, after_fork, renew_in_child);
}
