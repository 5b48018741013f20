/* core.h: the C core of hotreload, which maps new code near a loaded library and redirects functions to it.
 *
 * Who calls whom (an arrow goes from the caller to the callee):
 *
 *                     hotreload/live/core.py  (cffi; the GIL is released during every call)
 *                                |
 *        +-----------+-----------+------------+--------------+
 *        v           v           v            v              v
 *     base.c      patch.c     image.c      site.c         commit.c
 *     find the    read and    stage and    recognise      prepare, then the
 *     library     validate    unstage      an entry       point of no return
 *        |                       |            |              |
 *        |        +---------+----+----+       |         +----+------+
 *        v        v         v         v       v         v           v
 *     near.c   imports.c  fixup.c  frames.c  maps.c   poke.c     barrier.c
 *     address  symbols,   numbers  unwind    the      pages and  membarrier
 *     space    libraries           tables    map      stores     core sync
 *
 *                                core.py
 *                   +---------------+------------------+
 *                   v                                  v
 *              requests.c                        transition.c --------------> commit.c, near.c, maps.c, frames.c
 *              inside or not                     open, begin, wait, reverse, finish
 *                   |                                  |
 *                   v                   +--------------+-------------+
 *              relay.c <--- threads     v              v             v
 *              may I go     of the    stub.c        tasks.c      debugger.c
 *              over now?    host      code for      threads      names for gdb, of
 *                                     one entry     from outside stubs and generations
 *
 * genfile.c makes the file that image.c maps and debugger.c shows (genfile.h);
 * and status.c (texts) and lock.c (the locks, fork) under all of them; marker.c stands beside them and is called by
 * fatal signals. Above this header nobody computes addresses; below it nobody knows Python.
 *
 * Conventions. Every function that can fail returns enum hr_status and fills struct hr_error; results come through
 * parameters and are written only on success. Nothing here aborts, asserts, prints or throws. Verbs come in pairs:
 * open/close, stage/unstage. Addresses are uintptr_t until the moment of the store.
 *
 * What stands between "cdef: begin" and "cdef: end" is read by build_core.py too and becomes the Python binding, so
 * there is one declaration of everything.
 */
#ifndef HR_CORE_H
#define HR_CORE_H

#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* cdef: begin */

/* Filled by whoever refuses; what does not apply is zero. */
struct hr_error {
    int status;        /* enum hr_status */
    int errnum;        /* errno of the call */
    const char *call;  /* system call or library function that failed, or NULL */
    uintptr_t address; /* where */
    uint64_t value;    /* what was found */
    uint64_t limit;    /* what is allowed or was expected */
    uint64_t length;   /* how many bytes were asked for */
    char name[128];    /* symbol, library or field of the table */
    char detail[192];  /* what the callee said, for instance dlerror() */
};

const char *hr_status_name(int status);   /* "NO_ROOM" */
const char *hr_status_family(int status); /* "FINE", "STAGE", "TRANSITION" or "POISONED" */
const char *hr_status_text(int status);
const char *hr_status_hint(int status);
int hr_status_count(void);

/* The libraries of this process, as dl_iterate_phdr shows them. */
struct hr_object {
    char *path;
    uintptr_t bias, start, end;
    size_t tls_module;   /* 0: none */
    uintptr_t tls_block; /* the calling thread's, 0: not allocated yet */
    uint64_t tls_len;
    int is_static_tls;     /* its block lies at one offset from the thread pointer in every thread */
    uint32_t build_id_len; /* 0: none */
    uint8_t build_id[32];
    uintptr_t slots; /* 0: its entries are not redirected through slots */
    uint64_t slots_len;
};

struct hr_objects {
    struct hr_object *items;
    size_t count;
};

enum hr_status hr_objects_open(struct hr_objects *objects, struct hr_error *error);
void hr_objects_close(struct hr_objects *objects);

/* A loaded library that patches are made for. Opening it pins it: it cannot be unloaded until it is closed. Its slots
 * are read-only from here on, except during a commit. */
struct hr_base;

enum hr_status hr_base_open(const char *path, struct hr_base **base, struct hr_error *error);
void hr_base_close(struct hr_base *base); /* only when none of its images is staged */
const struct hr_object *hr_base_object(const struct hr_base *base);

/* Keeps up to len bytes of address space near the base for its generations; reserved gets what was found. */
enum hr_status hr_base_reserve(struct hr_base *base, size_t len, size_t *reserved, struct hr_error *error);

/* A patch file, read once into private memory and validated; it does not change the process. */
struct hr_patch;

struct hr_patch_info {
    const uint8_t *build_id;
    uint32_t build_id_len;
    uint64_t image_len;
    uint32_t function_count, carried_count, range_count, hook_count, table_count;
    int data_escapes; /* a pointer into its data or code may be kept: never proven unused */
};

struct hr_patch_function {
    const char *name;
    int is_carried;
    uint64_t entry; /* base offset, or index into carried */
    uint64_t image_off;
};

struct hr_patch_carried {
    const char *key;
    int is_function;
    uint64_t image_off;
    uint64_t size;
};

/* Code of the base that belongs to a replaced function. */
struct hr_patch_range {
    uint32_t function;
    uint64_t base_off;
    uint64_t len;
};

struct hr_patch_hook {
    uint32_t kind; /* 1 pre-commit, 2 post-commit, 3 post-rollback */
    const char *name;
    uint64_t image_off;
};

/* One of Python's tables, of the base and as the sources have it now. */
struct hr_patch_table {
    uint32_t kind; /* 1 methods, 2 getters and setters, 3 members */
    const char *name;
    uint64_t base_off;
    uint64_t image_off;
    uint32_t base_count, count;
    const char *changes; /* a letter for each entry of the base */
};

enum hr_status hr_patch_open(int fd, struct hr_patch **patch, struct hr_error *error);
enum hr_status hr_patch_parse(const void *bytes, size_t len, struct hr_patch **patch, struct hr_error *error);
void hr_patch_close(struct hr_patch *patch);
void hr_patch_describe(const struct hr_patch *patch, struct hr_patch_info *info);
void hr_patch_function_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_function *function);
void hr_patch_carried_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_carried *carried);
void hr_patch_range_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_range *range);
void hr_patch_hook_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_hook *hook);
void hr_patch_table_at(const struct hr_patch *patch, uint32_t index, struct hr_patch_table *table);

/* A generation: a patch mapped near its base and bound to it. Staging redirects nothing. */
struct hr_image;

struct hr_image_info {
    uintptr_t address;
    uint64_t len;        /* address space */
    uint64_t mapped_len; /* bytes of its segments */
    uint64_t distance;   /* bytes between it and the base */
    int is_from_reserve;
    uintptr_t text_start, text_end; /* from its first byte of code to its last; equal when it has none */
    uint8_t build_id[20];           /* of its file, see genfile.h */
    uint32_t build_id_len;          /* 0: none, tools know no more than names */
};

/* carried: for every carried symbol the address at its owner, or 0 when this image becomes the owner.
 * name: what ends in the number that tools show; also the name in /proc/self/maps of an image without a file.
 * fd: an empty file of ours which becomes the generation's, or -1: it has none. It is left open. */
enum hr_status hr_image_stage(const struct hr_patch *patch, struct hr_base *base, const uintptr_t *carried,
                              const char *name, int fd, struct hr_image **image, struct hr_error *error);

/* Only when nothing was ever redirected to it, or nobody is in it any more and nobody comes. has_run: libraries that it
 * brought stay loaded, since what its code left there (threads, callbacks) is not seen by anybody. */
void hr_image_unstage(struct hr_image *image, int has_run);
void hr_image_describe(const struct hr_image *image, struct hr_image_info *info);

/* What a commit stores: the jump at the entry itself, or the address in the slot that the entry jumps through. */
enum hr_site_kind { HR_SITE_JUMP, HR_SITE_SLOT };

/* One redirectable entry. where is the address of the 8 bytes that a commit stores, original and present are those
 * bytes as found first and as the last commit left them. */
struct hr_site {
    uintptr_t entry, where;
    int kind; /* enum hr_site_kind */
    uint64_t original;
    uint64_t present;
};

/* The pages of slots that are met are read-only from here on, except during a commit. */
enum hr_status hr_sites_open(const uintptr_t *entries, size_t count, struct hr_site *sites, struct hr_error *error);

/* One step of a commit: target 0 puts the original bytes back. */
struct hr_move {
    struct hr_site *site;
    uintptr_t target;
};

struct hr_commit_report {
    int is_synchronised;
    uint32_t pages;
    uint64_t nanoseconds; /* from the first page opened to the last page closed */
};

/* One batch may have sites of both kinds. Only entries that are text themselves need the host's leave to open text and
 * the kernel's core sync; slots are data, which every core loads as it is. allow_unsynchronised: go on where the
 * kernel has no core sync, and report it. */
enum hr_status hr_commit(const struct hr_move *moves, size_t count, int allow_unsynchronised,
                         struct hr_commit_report *report, struct hr_error *error);

/* Threads on their way from one definition of several functions to another, each for itself: a thread goes over when
 * none of the code of the side that it leaves is on its stack. One is open at a time.
 *
 *                      reverse, any number of times
 *                           +---+
 *                           v   |
 *   open --> begin --> wait, look --> finish --> close --> discard
 *       \___________________________________________^
 */
struct hr_extent {
    uintptr_t start, end;
};

struct hr_switch {
    struct hr_site *site;
    uintptr_t before, after; /* 0: the original code of the site */
};

struct hr_sides {
    const struct hr_extent *before, *after; /* all the code of either side; what is to be proven unused */
    size_t before_count, after_count;
};

struct hr_transition;

struct hr_progress {
    uint32_t threads; /* alive: that were there when it began, and those of the later ones that were in a stub */
    uint32_t settled;
    int is_settled;
};

struct hr_straggler {
    uint32_t tid;
    const char *reason; /* "RUNNING", "INSIDE", "REQUEST", "FOREIGN_STACK", "UNREADABLE" or "CROWDED" */
    uintptr_t where;    /* INSIDE: the address that keeps it */
    uint32_t frame_count;
    uintptr_t frames[32]; /* return addresses, innermost first; stale ones may be among them */
};

/* Refuses when another is open, and where threads cannot be looked at. Maps the stubs; redirects nothing. A transition
 * without switches redirects nothing ever: it proves that nobody is in the code of its sides. */
enum hr_status hr_transition_open(struct hr_base *base, const struct hr_switch *switches, size_t count,
                                  const struct hr_sides *sides, int is_per_request, struct hr_transition **transition,
                                  struct hr_error *error);
void hr_transition_stubs(const struct hr_transition *transition, struct hr_extent *stubs);

/* All entries lead to their stubs, or none does; then threads begin to go over. */
enum hr_status hr_transition_begin(struct hr_transition *transition, int allow_unsynchronised,
                                   struct hr_commit_report *report, struct hr_error *error);
/* is_outside: the calling thread runs nothing of the host's, whatever words lie on its stack. */
enum hr_status hr_transition_wait(struct hr_transition *transition, uint64_t nanoseconds, int is_outside,
                                  int *is_settled, struct hr_error *error);
/* From here until relax nobody stays in wait, of any transition: it looks at one thread and comes back. */
void hr_transition_hurry(void);
void hr_transition_relax(void);
enum hr_status hr_transition_look(struct hr_transition *transition, struct hr_progress *progress,
                                  struct hr_straggler *stragglers, size_t room, size_t *count, struct hr_error *error);
enum hr_status hr_transition_reverse(struct hr_transition *transition, struct hr_error *error);

/* The entries lead to the goal side, settled or not. */
enum hr_status hr_transition_finish(struct hr_transition *transition, int allow_unsynchronised,
                                    struct hr_commit_report *report, struct hr_error *error);
enum hr_status hr_transition_close(struct hr_transition *transition, struct hr_error *error);

/* Unmaps the stubs and ends the handle: only when it never began, or nobody can be in them any more. A later transition
 * proves that, and that nobody is in the code of its before side, when it is settled and its goal is the after side;
 * one that was turned round does not, since it does not look at threads that had not moved. */
enum hr_status hr_transition_discard(struct hr_transition *transition, struct hr_error *error);

/* A request: at that level no thread goes over between enter and leave. May be nested, and left by another thread. */
struct hr_request;

enum hr_status hr_request_enter(struct hr_request **request, struct hr_error *error);
void hr_request_leave(struct hr_request *request);
uint64_t hr_request_count(void);

enum hr_status hr_text_probe(struct hr_error *error);    /* may text be changed here, and is that seen? */
int hr_is_write_execute_denied(void);                    /* PR_SET_MDWE */
enum hr_status hr_slot_probe(struct hr_error *error);    /* may data be opened for writing here, and closed again? */
enum hr_status hr_barrier_probe(struct hr_error *error); /* has the kernel core sync? */
uint64_t hr_barrier_count(void);                         /* successful core syncs of this process so far */

/* The crash marker: while it is armed, a fatal signal leaves one line before it takes its course. The caller keeps the
 * marker and all that it points to long after another was armed, since a signal may be at work on it. */
struct hr_marker_function {
    uintptr_t start;
    const char *name;
};

struct hr_marker_region {
    uintptr_t start, end;
    const char *label; /* what the line says of it: module, generation, push */
    const struct hr_marker_function *functions;
    size_t function_count;
};

struct hr_marker {
    const char *directory;                  /* gets a file crash-PID */
    uint64_t until;                         /* nanoseconds of CLOCK_MONOTONIC */
    const struct hr_marker_region *regions; /* the newest first */
    size_t count;
};

enum hr_status hr_marker_arm(const struct hr_marker *marker, struct hr_error *error);
void hr_marker_disarm(void);
int hr_marker_is_armed(void);

/* The displacement of an instruction that ends at next and refers to target; 0 when it does not fit. */
int hr_rel32(uintptr_t next, uintptr_t target, int32_t *displacement);
uint64_t hr_encode_jump(int32_t displacement);
uint64_t hr_encode_slot_jump(int32_t displacement); /* counted from entry + 6 */

/* cdef: end */

#endif
