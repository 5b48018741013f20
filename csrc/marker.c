/* marker.c: one line from a process that dies soon after a commit, naming who may be to blame.
 *
 *   fault ──▶ handle ──▶ armed? in time? first? ──▶ line ──▶ write to STATE/crashes/crash-PID, write to stderr
 *                │                                                     │
 *                └──────────────▶ pass_on ◀────────────────────────────┘
 *
 *   pass_on   a handler was there before      it is called, with the very same arguments
 *             nothing was there                the default is put back: the instruction faults again, or, where the
 *                                              signal was sent, it is sent once more; same signal, same core, same exit
 *             it was ignored                   it stays ignored
 *
 * faulthandler before us: it is what we call. faulthandler after us: it stands in front, puts us back, writes, and
 * raises the signal again. The fault's own registers are then further up the stack, where the scan finds them.
 *
 * blame=new-code            the faulting instruction is in the new code
 * blame=new-code-on-stack   an address in the new code is among the words above the stack pointer
 * blame=none                neither, as far as that can be seen
 *
 * Whoever installs a handler over ours may call ours from it. Ours is then never put above theirs: the two would call
 * each other for ever. It is enough that they stand in front.
 *
 * Context: a signal handler, on any thread, in any state of the process. Nothing here allocates, locks or waits; what
 * is read was made before and is never changed while it is armed, since its owner keeps it.
 */
#define _GNU_SOURCE
#include "core.h"
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#pragma GCC poison malloc calloc realloc free printf fprintf snprintf abort exit dlsym pthread_mutex_lock

enum { SIGNALS = 5, LINE = 1024, WORDS = 512, PATH = 512 };

struct chain {
    int number;
    int is_installed;       /* on top, or below somebody else's */
    struct sigaction below; /* what was there before us */
};

static struct chain chains[SIGNALS] = {
    {.number = SIGSEGV}, {.number = SIGBUS}, {.number = SIGILL}, {.number = SIGFPE}, {.number = SIGABRT},
};

static const struct hr_marker *armed;
static int is_written; /* one line for each arming */

/* A line that is being put together; what does not fit is left out. */
struct line {
    size_t len;
    char text[LINE];
};

static void add(struct line *line, const char *text) {
    while (*text && line->len < LINE - 1)
        line->text[line->len++] = *text++;
}

static void add_number(struct line *line, uint64_t value, unsigned base) {
    char digits[24];
    size_t at = sizeof digits;
    digits[--at] = 0;
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    add(line, digits + at);
}

static void add_field(struct line *line, const char *name, uint64_t value) {
    add(line, name);
    add_number(line, value, 10);
}

static const struct hr_marker_region *region_of(const struct hr_marker *marker, uintptr_t address) {
    for (size_t i = 0; i < marker->count; i++)
        if (address >= marker->regions[i].start && address < marker->regions[i].end)
            return &marker->regions[i];
    return NULL;
}

/* The words above the stack pointer, as many as there are. Read through the kernel, which says no where we would
 * fault: the stack may end, or be what is broken. */
static uintptr_t find_on_stack(const struct hr_marker *marker, uintptr_t from) {
    uintptr_t words[64];
    from &= ~(uintptr_t)(sizeof *words - 1);
    for (size_t done = 0; done < WORDS; done += sizeof words / sizeof *words) {
        struct iovec here = {words, sizeof words};
        struct iovec there = {(void *)(from + done * sizeof *words), sizeof words};
        ssize_t got = process_vm_readv(getpid(), &here, 1, &there, 1, 0);
        for (size_t i = 0; got > 0 && i < (size_t)got / sizeof *words; i++)
            if (region_of(marker, words[i]))
                return words[i];
        if (got < (ssize_t)sizeof words)
            break;
    }
    return 0;
}

static void add_function(struct line *line, const struct hr_marker_region *region, uintptr_t address) {
    const struct hr_marker_function *found = NULL;
    for (size_t i = 0; i < region->function_count; i++)
        if (region->functions[i].start <= address && (!found || region->functions[i].start > found->start))
            found = &region->functions[i];
    add(line, " function=");
    add(line, found ? found->name : "?");
    if (found) {
        add(line, "+0x");
        add_number(line, address - found->start, 16);
    }
}

static void compose(struct line *line, const struct hr_marker *marker, int number, const siginfo_t *info,
                    const ucontext_t *context) {
    uintptr_t pc = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    uintptr_t blamed = pc;
    const struct hr_marker_region *region = region_of(marker, pc);
    const char *blame = "new-code";
    if (!region) {
        blamed = find_on_stack(marker, (uintptr_t)context->uc_mcontext.gregs[REG_RSP]);
        region = blamed ? region_of(marker, blamed) : NULL;
        blame = region ? "new-code-on-stack" : "none";
    }
    add_field(line, "hotreload: crash signal=", (uint64_t)number);
    add_field(line, " pid=", (uint64_t)getpid());
    add_field(line, " tid=", (uint64_t)syscall(SYS_gettid));
    if (info->si_code <= 0)
        add_field(line, " sender=", (uint64_t)info->si_pid);
    add(line, " pc=0x");
    add_number(line, pc, 16);
    add(line, " blame=");
    add(line, blame);
    if (region)
        add_function(line, region, blamed);
    else
        add(line, " function=?");
    add(line, " ");
    add(line, region ? region->label : marker->regions[0].label);
    line->text[line->len++] = '\n';
}

static void write_file(const struct hr_marker *marker, const struct line *line) {
    struct line path = {0};
    if (strlen(marker->directory) >= PATH)
        return;
    add(&path, marker->directory);
    add(&path, "/crash-");
    add_number(&path, (uint64_t)getpid(), 10);
    path.text[path.len] = 0;
    int fd = open(path.text, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    ssize_t done = write(fd, line->text, line->len);
    (void)done; /* a disk that is full: the line is on stderr */
    close(fd);
}

/* A pipe that nobody empties must not keep the process from dying; one that can be written to has room for a line. */
static void write_stderr(const struct line *line) {
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT))
        return;
    ssize_t done = write(STDERR_FILENO, line->text, line->len);
    (void)done;
}

static void mark(int number, const siginfo_t *info, const ucontext_t *context) {
    struct line line = {0};
    const struct hr_marker *marker = __atomic_load_n(&armed, __ATOMIC_ACQUIRE);
    if (!marker || !marker->count || hr_now() > marker->until || __atomic_exchange_n(&is_written, 1, __ATOMIC_ACQ_REL))
        return;
    compose(&line, marker, number, info, context);
    write_file(marker, &line);
    write_stderr(&line);
}

/* The default is put back and the signal comes again: by itself when an instruction caused it, from here when it was
 * sent. It is blocked until the handler returns. */
static void take_default(const struct chain *chain, const siginfo_t *info) {
    struct sigaction none = {.sa_handler = SIG_DFL};
    sigaction(chain->number, &none, NULL);
    if (info->si_code <= 0)
        syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), chain->number);
}

static int is_handler(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) || (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

static int is_ignored(const struct sigaction *action) {
    return !(action->sa_flags & SA_SIGINFO) && action->sa_handler == SIG_IGN;
}

static void pass_on(const struct chain *chain, siginfo_t *info, void *context) {
    if (!is_handler(&chain->below))
        take_default(chain, info);
    else if (chain->below.sa_flags & SA_SIGINFO)
        chain->below.sa_sigaction(chain->number, info, context);
    else
        chain->below.sa_handler(chain->number);
}

static void handle(int number, siginfo_t *info, void *context) {
    int saved = errno;
    for (size_t i = 0; i < SIGNALS; i++) {
        /* What was sent can be ignored; a fault cannot. */
        if (chains[i].number != number || (is_ignored(&chains[i].below) && info->si_code <= 0))
            continue;
        mark(number, info, context);
        pass_on(&chains[i], info, context);
    }
    errno = saved;
}

static int is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == handle;
}

static enum hr_status install(struct chain *chain, struct hr_error *error) {
    struct sigaction present;
    struct sigaction ours = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    if (sigaction(chain->number, NULL, &present))
        return hr_refuse_call(error, HR_MARKER, "sigaction", errno);
    if (is_ours(&present) || (chain->is_installed && is_handler(&present)))
        return HR_OK;
    chain->below = present;
    if (sigaction(chain->number, &ours, NULL))
        return hr_refuse_call(error, HR_MARKER, "sigaction", errno);
    chain->is_installed = 1;
    return HR_OK;
}

/* Only where ours is on top: whoever is above calls it, and it then passes on and no more. */
static void remove_handler(struct chain *chain) {
    struct sigaction present;
    if (!chain->is_installed || sigaction(chain->number, NULL, &present) || !is_ours(&present))
        return;
    if (!sigaction(chain->number, &chain->below, NULL))
        chain->is_installed = 0;
}

enum hr_status hr_marker_arm(const struct hr_marker *marker, struct hr_error *error) {
    if (strlen(marker->directory) >= PATH - 32)
        return hr_refuse_call(error, HR_MARKER, "path", ENAMETOOLONG);
    for (size_t i = 0; i < SIGNALS; i++) {
        enum hr_status status = install(&chains[i], error);
        if (status) {
            while (i)
                remove_handler(&chains[--i]);
            return status;
        }
    }
    __atomic_store_n(&is_written, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&armed, marker, __ATOMIC_RELEASE);
    return HR_OK;
}

void hr_marker_disarm(void) {
    __atomic_store_n(&armed, NULL, __ATOMIC_RELEASE);
    for (size_t i = 0; i < SIGNALS; i++)
        remove_handler(&chains[i]);
}

int hr_marker_is_armed(void) {
    return __atomic_load_n(&armed, __ATOMIC_ACQUIRE) != NULL;
}
