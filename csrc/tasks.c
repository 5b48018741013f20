/* tasks.c: the threads of this process, seen from outside, without a signal and without their help.
 *
 *   a still picture of a blocked thread
 *
 *     status    context switches n     -+
 *     syscall   call, sp, pc            |  the thread was off its processor from here ...
 *     memory    from sp up to the top   |
 *     syscall   call, sp, pc            |  ... to here, and it had not run in between:
 *     status    context switches n     -+  to run and be off again takes a switch
 *
 * The kernel prints "running" for a thread that is not blocked. The top of a stack of the thread library is where the
 * control block of the thread stands: a word that holds its own address, and again 16 bytes on. If there is a hole
 * before it, the thread is not on its own stack.
 *
 * Context: the driver, under its lock: no memory is allocated.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#pragma GCC poison malloc calloc realloc free opendir fopen pthread_mutex_lock

enum { STAT_FLAGS = 9 - 3, STAT_STARTED = 22 - 3 }; /* fields behind the name, counted from the state */

/* Of the flags of a task. The first was "runs a virtual machine" before Linux 5.7, the second is from 6.4 on. */
enum { IO_WORKER = 0x10, USER_WORKER = 0x4000, KERNEL_THREAD = 0x200000 };

int hr_tasks_open(struct hr_tasks *tasks) {
    tasks->pos = tasks->len = 0;
    tasks->errnum = 0;
    tasks->count = 0;
    tasks->fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tasks->fd < 0)
        return errno;
    struct stat directory;
    if (!fstat(tasks->fd, &directory) && directory.st_nlink > 2) /* one for each task, besides "." and ".." */
        tasks->count = directory.st_nlink - 2;
    return 0;
}

void hr_tasks_close(struct hr_tasks *tasks) {
    close(tasks->fd);
}

/* An entry is { u64 inode, i64 offset, u16 len, u8 type, name }. */
uint32_t hr_tasks_next(struct hr_tasks *tasks) {
    for (;;) {
        if (tasks->pos >= tasks->len) {
            long got = syscall(SYS_getdents64, tasks->fd, tasks->text, sizeof tasks->text);
            if (got < 0)
                tasks->errnum = errno;
            if (got <= 0)
                return 0;
            tasks->pos = 0;
            tasks->len = (size_t)got;
        }
        const char *entry = tasks->text + tasks->pos;
        uint16_t len;
        memcpy(&len, entry + 16, sizeof len);
        tasks->pos += len;
        uint32_t tid = (uint32_t)strtoul(entry + 19, NULL, 10);
        if (tid)
            return tid;
    }
}

/* Reads the beginning of a small file of a task; 0, or errno. */
static int read_file(uint32_t tid, const char *name, char *text, size_t room) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%u/%s", tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    size_t len = 0;
    ssize_t got;
    int errnum = 0;
    while (len < room - 1 && ((got = read(fd, text + len, room - 1 - len)) > 0 || (got < 0 && errno == EINTR)))
        len += got > 0 ? (size_t)got : 0;
    if (got < 0)
        errnum = errno;
    close(fd);
    text[len] = 0;
    return !errnum && !len ? ESRCH : errnum;
}

static enum hr_look look_of(int errnum) {
    return errnum == ENOENT || errnum == ESRCH ? HR_LOOK_GONE : HR_LOOK_UNREADABLE;
}

enum hr_look hr_task_stat(uint32_t tid, struct hr_task_stat *stat) {
    char text[1024];
    int errnum = read_file(tid, "stat", text, sizeof text);
    if (errnum)
        return look_of(errnum);
    *stat = (struct hr_task_stat){0};
    char *at = strrchr(text, ')'); /* the name may hold anything */
    if (!at || !at[1])
        return HR_LOOK_UNREADABLE;
    stat->state = at[2];
    char *save = NULL;
    char *field = strtok_r(at + 2, " ", &save);
    for (int i = 0; field; i++, field = strtok_r(NULL, " ", &save)) {
        if (i == STAT_FLAGS)
            stat->flags = strtoull(field, NULL, 10);
        if (i == STAT_STARTED)
            stat->started = strtoull(field, NULL, 10);
    }
    return HR_LOOK_OUTSIDE;
}

int hr_task_is_foreign(const struct hr_task_stat *stat) {
    return stat->state == 'Z' || stat->state == 'X' || (stat->flags & (IO_WORKER | USER_WORKER | KERNEL_THREAD));
}

static enum hr_look read_switches(uint32_t tid, uint64_t *switches) {
    char text[4096];
    int errnum = read_file(tid, "status", text, sizeof text);
    if (errnum)
        return look_of(errnum);
    const char *own = strstr(text, "\nvoluntary_ctxt_switches:");
    const char *forced = strstr(text, "\nnonvoluntary_ctxt_switches:");
    if (!own || !forced)
        return HR_LOOK_UNREADABLE;
    *switches = strtoull(strchr(own, ':') + 1, NULL, 10) + strtoull(strchr(forced, ':') + 1, NULL, 10);
    return HR_LOOK_OUTSIDE;
}

/* "running", "-1 sp pc" or "call a b c d e f sp pc". */
static enum hr_look read_call(uint32_t tid, struct hr_still *still) {
    char text[256];
    int errnum = read_file(tid, "syscall", text, sizeof text);
    if (errnum)
        return look_of(errnum);
    if (!strncmp(text, "running", 7))
        return HR_LOOK_RUNNING;
    char *at = text;
    still->call = strtol(at, &at, 10);
    uint64_t numbers[8];
    int count = 0;
    for (; count < 8; count++) {
        char *end;
        numbers[count] = strtoull(at, &end, 16);
        if (end == at)
            break;
        at = end;
    }
    if (count < 2)
        return HR_LOOK_UNREADABLE;
    still->stack = numbers[count - 2];
    still->pc = numbers[count - 1];
    return HR_LOOK_OUTSIDE;
}

/* OUTSIDE here means only that it is blocked. */
enum hr_look hr_task_still(uint32_t tid, struct hr_still *still) {
    enum hr_look look = read_call(tid, still);
    return look ? look : read_switches(tid, &still->switches);
}

size_t hr_memory_read(uintptr_t address, void *to, size_t len) {
    struct iovec local = {to, len}, remote = {(void *)address, len};
    ssize_t got = process_vm_readv(hr_relay_pid, &local, 1, &remote, 1, 0);
    return got < 0 ? 0 : (size_t)got;
}

static int is_control_block(uintptr_t at, uintptr_t word) {
    uintptr_t again;
    return word == at && hr_memory_read(at + 16, &again, sizeof again) == sizeof again && again == at;
}

/* top: 0 when the control block shows it. */
static enum hr_look look_at_stack(uintptr_t stack, uintptr_t top, const struct hr_ranges *ranges, uintptr_t *where) {
    uintptr_t words[HR_PAGE / 8];
    stack &= ~(uintptr_t)7;
    if (top && stack >= top)
        return HR_LOOK_FOREIGN;
    for (;;) {
        uintptr_t end = hr_page_down(stack) + HR_PAGE;
        end = top && top < end ? top : end;
        if (hr_memory_read(stack, words, end - stack) != end - stack)
            return HR_LOOK_FOREIGN;
        for (size_t i = 0; i < (end - stack) / 8; i++) {
            if (!top && is_control_block(stack + 8 * i, words[i]))
                return HR_LOOK_OUTSIDE;
            if (hr_relay_has_range(ranges, words[i])) {
                *where = words[i];
                return HR_LOOK_INSIDE;
            }
        }
        stack = end;
        if (top && stack >= top)
            return HR_LOOK_OUTSIDE;
    }
}

/* A main thread that was some other thread of the parent has that one's stack, and its control block with it. */
enum hr_look hr_task_look(uint32_t tid, const struct hr_ranges *ranges, uintptr_t main_top, uintptr_t *where) {
    struct hr_still before = {0}, after = {0};
    uint64_t switches = 0;
    int is_main = tid == (uint32_t)hr_relay_pid && !hr_is_main_forked;
    enum hr_look look = read_call(tid, &before); /* the cheap question first: most of the unsettled are running */
    if (!look)
        look = read_switches(tid, &switches);
    if (!look)
        look = read_call(tid, &before);
    if (look)
        return look;
    if (!before.stack) { /* a task that is over, but not yet gone */
        struct hr_task_stat stat;
        look = hr_task_stat(tid, &stat);
        return !look && !hr_task_is_foreign(&stat) ? HR_LOOK_UNREADABLE : look ? look : HR_LOOK_GONE;
    }
    if (hr_relay_has_range(ranges, before.pc)) {
        *where = before.pc;
        return HR_LOOK_INSIDE;
    }
    look = look_at_stack(before.stack, is_main ? main_top : 0, ranges, where);
    if (look)
        return look;
    look = hr_task_still(tid, &after);
    if (look)
        return look;
    int is_still =
        after.switches == switches && after.call == before.call && after.stack == before.stack && after.pc == before.pc;
    return is_still ? HR_LOOK_OUTSIDE : HR_LOOK_RUNNING;
}

/* Is there a call in front of this address? e8 rel32, or ff /2 of 2, 3, 6 or 7 bytes. */
static int follows_call(uintptr_t address) {
    uint8_t code[7];
    if (hr_memory_read(address - sizeof code, code, sizeof code) != sizeof code)
        return 0;
    if (code[2] == 0xe8)
        return 1;
    static const int lens[] = {2, 3, 6, 7};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
        if (code[7 - lens[i]] == 0xff && (code[8 - lens[i]] >> 3 & 7) == 2)
            return 1;
    return 0;
}

size_t hr_stack_frames(uintptr_t stack, const struct hr_ranges *text, uintptr_t *frames, size_t room) {
    enum { DEPTH = 64 * 1024 };
    uintptr_t words[HR_PAGE / 8], last = stack + DEPTH;
    size_t count = 0;
    for (stack &= ~(uintptr_t)7; stack < last; stack = hr_page_down(stack) + HR_PAGE) {
        size_t len = hr_page_down(stack) + HR_PAGE - stack;
        if (hr_memory_read(stack, words, len) != len)
            break;
        for (size_t i = 0; i < len / 8; i++) {
            if (count == room)
                return count;
            if (hr_relay_has_range(text, words[i]) && follows_call(words[i]))
                frames[count++] = words[i];
        }
    }
    return count;
}
