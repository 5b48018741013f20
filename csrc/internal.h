/* internal.h: what the files of the core share among themselves. */
#ifndef HR_INTERNAL_H
#define HR_INTERNAL_H

#include "core.h"
#include "genfile.h"
#include "linktable.h"

#include <time.h>

enum { HR_PAGE = 4096 };

#define HR_PROLOGUE_NOPL UINT64_C(0x0000000000841f0f) /* 0f 1f 84 00 00 00 00 00   nopl 0x0(%rax,%rax,1) */
#define HR_PROLOGUE_LEA  UINT64_C(0x0000000024a48d48) /* 48 8d a4 24 00 00 00 00   lea 0x0(%rsp),%rsp */

static inline uint64_t hr_page_up(uint64_t n) {
    return (n + HR_PAGE - 1) & ~(uint64_t)(HR_PAGE - 1);
}

static inline uint64_t hr_page_down(uint64_t n) {
    return n & ~(uint64_t)(HR_PAGE - 1);
}

/* Nanoseconds of CLOCK_MONOTONIC; may be asked for in a signal handler. */
static inline uint64_t hr_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_nsec;
}

/* status.c */
enum hr_status hr_refuse(struct hr_error *error, enum hr_status status);
enum hr_status hr_refuse_call(struct hr_error *error, enum hr_status status, const char *call, int errnum);
void hr_error_name(struct hr_error *error, const char *name);
void hr_error_detail(struct hr_error *error, const char *detail);

/* lock.c */
void hr_lock(void);
void hr_unlock(void);
void hr_transition_lock(void); /* taken before hr_lock, never after it */
void hr_transition_unlock(void);

/* site.c */
uint64_t hr_site_entry_word(const struct hr_site *site);             /* the 8 bytes that its entry should hold */
int hr_site_is_as_opened(const struct hr_site *site, uint64_t word); /* a slot's entry may have a breakpoint on it */

/* maps.c: iterator over /proc/self/maps */
enum { HR_MAP_R = 1, HR_MAP_W = 2, HR_MAP_X = 4 };

struct hr_mapping {
    uintptr_t start, end;
    int prot; /* HR_MAP_*, which have the values of PROT_* */
    int is_private;
    uint64_t device, inode; /* both 0: no file */
    int is_heap, is_stack;
};

struct hr_maps {
    int fd;
    size_t pos, len;
    struct hr_error *error;
    enum hr_status status; /* why next returned 0; HR_OK: the map ended */
    char text[8192];
};

enum hr_status hr_maps_open(struct hr_maps *maps, struct hr_error *error);
int hr_maps_next(struct hr_maps *maps, struct hr_mapping *mapping); /* 0: no more, or maps->status says why */
void hr_maps_close(struct hr_maps *maps);

/* near.c */
struct hr_span {
    struct hr_span *next;
    uintptr_t start, end;
};

struct hr_reserve {
    uintptr_t start, end;
    struct hr_span *used; /* ascending */
};

struct hr_place {
    uintptr_t address;
    size_t len;
    int is_from_reserve;
};

/* Says whether everything that refers across the gap reaches, when the image begins at address. */
typedef int hr_accept(void *context, uintptr_t address);

enum hr_status hr_near_map(uintptr_t start, uintptr_t end, size_t len, hr_accept *accept, void *context,
                           uintptr_t *address, struct hr_error *error);
enum hr_status hr_place_open(struct hr_base *base, size_t len, hr_accept *accept, void *context, struct hr_place *place,
                             struct hr_error *error);
void hr_place_close(struct hr_base *base, const struct hr_place *place);

/* base.c */
struct hr_load {
    uintptr_t start, end;
    int is_executable, is_writable;
};

struct hr_base {
    struct hr_object object;
    void *handle;  /* pins the library; its own scope */
    void *process; /* the global scope */
    struct hr_load *loads;
    size_t load_count;
    struct hr_load relro; /* data that the loader has made read-only */
    struct hr_reserve reserve;
};

int hr_base_is_text(const struct hr_base *base, uintptr_t address);
int hr_base_is_data(const struct hr_base *base, uintptr_t address, size_t len); /* all of it can be written to */

/* genfile.c, more of it below */
int hr_memfd_open(const char *name); /* an unnamed file whose pages may be mapped executable; -1: errno says why */

/* patch.c */
struct hr_patch {
    uint8_t *file;
    size_t file_len;
    struct hr_link_header header;
    struct hr_link_segment *segments;
    struct hr_link_fixup *fixups;
    struct hr_link_import *imports;
    struct hr_link_library *libraries;
    struct hr_link_carried *carried;
    struct hr_link_function *functions;
    struct hr_link_range *ranges;
    struct hr_link_hook *hooks;
    struct hr_link_table *tables;
    const char *strings;
    void *table; /* holds all of the above */
    struct hr_debug {
        const struct hr_debug_header *header; /* NULL: there is none */
        const uint8_t *head;
        const struct hr_debug_place *places;
        const struct hr_debug_name *names;
        const uint8_t *tail;
    } debug; /* in the file */
};

size_t hr_fixup_len(uint32_t kind);
uint64_t hr_table_entry_len(uint32_t kind);

/* imports.c */
struct hr_imports {
    uintptr_t *addresses; /* one for each import, 0: weak and missing */
    void **libraries;
    size_t library_count;
};

enum hr_status hr_imports_open(const struct hr_patch *patch, const struct hr_base *base, struct hr_imports *imports,
                               struct hr_error *error);
void hr_imports_close(struct hr_imports *imports, int keep_libraries);

/* fixup.c */
struct hr_binding {
    const struct hr_patch *patch;
    const struct hr_base *base;
    const struct hr_imports *imports;
    const uintptr_t *carried; /* 0: this image's own */
    const struct hr_objects *objects;
    struct hr_error *error;
};

enum hr_status hr_fixups_check(const struct hr_binding *binding, uintptr_t address);
enum hr_status hr_fixups_apply(const struct hr_binding *binding, uintptr_t address, uint8_t *image);
enum hr_status hr_fixups_finish(const struct hr_binding *binding, uintptr_t address);

/* genfile.c */
struct hr_genfile {
    uint8_t *image; /* image_len bytes, as they are mapped */
    uint64_t image_len;
    uint8_t *tail; /* NULL: the patch has no debug part */
    uint64_t tail_len;
    uint8_t build_id[HR_BUILD_ID_LEN];
    uint32_t build_id_len;
};

/* Fills in what tools read, also in the image. number: what the names of the generation end in. */
enum hr_status hr_genfile_fill(const struct hr_binding *binding, uintptr_t address, const char *number,
                               struct hr_genfile *file);
/* All of it, to a file that was given, or to a memfd of that name; fd is to be closed. */
enum hr_status hr_genfile_write(const struct hr_genfile *file, int given, const char *name, int *fd,
                                struct hr_error *error);
void hr_genfile_close(struct hr_genfile *file);

/* frames.c */
enum hr_status hr_frames_check(const uint8_t *frames, uint64_t len, struct hr_error *error);
void hr_frames_open(uintptr_t frames);
void hr_frames_close(uintptr_t frames);

/* barrier.c */
int hr_barrier_sync(void); /* 0, or errno */

/* relay.c: what a calling thread decides by. All of it is read and written by threads of the host at any moment. */
enum hr_side { HR_FROM, HR_TO, HR_BETWEEN, HR_GONE }; /* the last two: of a slot only */
enum hr_verdict { HR_NONE, HR_STAYED, HR_OFFERED, HR_SETTLED };
enum hr_seal { HR_OPEN, HR_SEALING, HR_SEALED, HR_FOREIGN, HR_CROWDED };
enum { HR_SLOTS = 1 << 14 };

/* What is known of one thread; 0 while nobody has it.
 *
 *    63        32 31        4 3     2 1  0
 *   |    tid     |   epoch   |verdict|side|     the verdict was given in this epoch and holds in no other
 */
struct hr_slot {
    uint64_t state;
    uintptr_t where; /* of STAYED: the return address that keeps it, or 0 */
};

struct hr_range {
    uintptr_t start, end; /* both inside: a call that never returns leaves the address behind the last instruction */
};

struct hr_ranges {
    struct hr_range *items; /* ascending, apart from each other */
    size_t count;
};

struct hr_relay {
    struct hr_relay *next; /* discarded while somebody may have been looking at it */
    uint32_t id;           /* what the word of a thread on the TO side holds; unique in this process, never 0 */
    uint32_t is_per_request;
    uint32_t epoch;    /* of the whole process, never again; even: the goal is TO, odd: FROM */
    uint32_t has_lost; /* a thread is on TO that found no slot */
    uint32_t marker;   /* the thread that set the seal to FOREIGN or CROWDED */
    uint64_t seal;     /* epoch << 3 | enum hr_seal */
    uintptr_t main_top;
    struct hr_ranges code[2]; /* of FROM and of TO, each with every arena of stubs */
    struct hr_slot *slots;
};

static inline uint64_t hr_slot_pack(uint32_t tid, enum hr_side side, enum hr_verdict verdict, uint32_t epoch) {
    return (uint64_t)tid << 32 | (uint64_t)(epoch & 0xfffffff) << 4 | (uint64_t)verdict << 2 | (uint64_t)side;
}

static inline uint32_t hr_slot_tid(uint64_t state) {
    return (uint32_t)(state >> 32);
}

static inline enum hr_side hr_slot_side(uint64_t state) {
    return (enum hr_side)(state & 3);
}

static inline enum hr_verdict hr_slot_verdict(uint64_t state, uint32_t epoch) {
    return (state >> 4 & 0xfffffff) == (epoch & 0xfffffff) ? (enum hr_verdict)(state >> 2 & 3) : HR_NONE;
}

static inline enum hr_side hr_goal_of(uint32_t epoch) {
    return epoch & 1 ? HR_FROM : HR_TO;
}

static inline uint64_t hr_seal_pack(uint32_t epoch, enum hr_seal seal) {
    return (uint64_t)epoch << 3 | (uint64_t)seal;
}

struct hr_request {
    struct hr_request *next;
    uint32_t depth; /* changed by any thread */
    uint32_t tid;   /* 0: free */
};

extern int hr_relay_pid;            /* of this process, renewed by fork */
extern int hr_is_main_forked;       /* the main thread's stack is that of a thread of the parent */
extern const char hr_relay_thunk[]; /* where the stubs go that cannot decide by themselves */
uintptr_t hr_relay_control_block(void);
intptr_t hr_relay_word_offset(void); /* of the calling thread's word, from its thread pointer */
int hr_relay_has_range(const struct hr_ranges *ranges, uintptr_t address);
enum hr_side hr_relay_decide(struct hr_relay *relay, uintptr_t stack); /* stack: where the caller's frames begin */
enum hr_side hr_relay_side(const struct hr_relay *relay);              /* of the calling thread */
struct hr_slot *hr_relay_find(struct hr_relay *relay, uint32_t tid, uint64_t first); /* first: what a new one holds */
void hr_relay_announce(struct hr_relay *relay);                                      /* NULL: there is none */
void hr_relay_visit(uintptr_t stack); /* moves the calling thread, if it may */
int hr_relay_has_visitors(void);
void hr_relay_set_request(struct hr_request *request);
struct hr_request *hr_relay_request(void);
void hr_relay_after_fork(void);

/* stub.c */
struct hr_arena {
    struct hr_arena *next;
    struct hr_base *base;
    struct hr_place place;
    uintptr_t text_end; /* stubs and their common tail: [place.address, text_end) */
    uintptr_t frames;
    uint32_t *goal; /* what the stubs compare; a hint, the relay knows better */
    struct hr_debugger *debugger;
};

struct hr_bodies {
    uintptr_t side[2];
};

enum { HR_STUB_LEN = 64 };

enum hr_status hr_arena_open(struct hr_base *base, const struct hr_bodies *bodies, size_t count, struct hr_relay *relay,
                             struct hr_arena **arena, struct hr_error *error);
void hr_arena_close(struct hr_arena *arena);
size_t hr_arenas_copy(struct hr_range *ranges, size_t room); /* how many there are; copies up to room of them */

/* tasks.c: threads, seen from outside */
struct hr_tasks {
    size_t count;   /* how many there were when it was opened; 0: not known */
    int fd, errnum; /* errnum: why next returned 0, or 0: there are no more */
    size_t pos, len;
    char text[4096];
};

int hr_tasks_open(struct hr_tasks *tasks); /* 0, or errno */
uint32_t hr_tasks_next(struct hr_tasks *tasks);
void hr_tasks_close(struct hr_tasks *tasks);

struct hr_task_stat {
    char state;
    uint64_t flags;
    uint64_t started; /* ticks since boot */
};

int hr_task_is_foreign(const struct hr_task_stat *stat); /* runs no code of this program, or no more */

enum hr_look { HR_LOOK_OUTSIDE, HR_LOOK_RUNNING, HR_LOOK_INSIDE, HR_LOOK_FOREIGN, HR_LOOK_UNREADABLE, HR_LOOK_GONE };

enum hr_look hr_task_stat(uint32_t tid, struct hr_task_stat *stat); /* OUTSIDE: it was read; or GONE, UNREADABLE */

/* A task as it stands still in the kernel. */
struct hr_still {
    uint64_t switches;
    long call;
    uintptr_t stack, pc;
};

enum hr_look hr_task_still(uint32_t tid, struct hr_still *still);
enum hr_look hr_task_look(uint32_t tid, const struct hr_ranges *ranges, uintptr_t main_top, uintptr_t *where);
size_t hr_stack_frames(uintptr_t stack, const struct hr_ranges *text, uintptr_t *frames, size_t room);
size_t hr_memory_read(uintptr_t address, void *to, size_t len); /* of this process, safely; how much it got */

/* requests.c */
int hr_request_is_open(uint32_t tid);
void hr_requests_after_fork(void); /* in the child */

/* debugger.c */
struct hr_debugger;

struct hr_debugger_symbol {
    const char *name;
    uintptr_t address;
    uint64_t len;
};

/* Names for the debugger; NULL when memory is out, which nobody needs to know. frames: .eh_frame, or 0. */
struct hr_debugger *hr_debugger_open(uintptr_t address, uint64_t len, uintptr_t frames, uint64_t frames_len,
                                     const struct hr_debugger_symbol *symbols, size_t count);
/* A whole file of a generation, mapped for it alone: it is unmapped at close. NULL: it was unmapped now. */
struct hr_debugger *hr_debugger_open_file(void *file, size_t len);
void hr_debugger_close(struct hr_debugger *debugger); /* NULL is fine */

/* transition.c */
void hr_transition_before_fork(void);
void hr_transition_after_fork(void); /* in the child */

/* poke.c: the point of no return */
struct hr_page {
    uintptr_t address;
    int open, closed; /* protections, PROT_*; text is closed as it was found */
};

struct hr_poke {
    struct hr_site *site;
    uint64_t before, after;
};

enum hr_status hr_pages_open(const struct hr_page *pages, size_t count, struct hr_error *error);
enum hr_status hr_poke(const struct hr_poke *pokes, size_t count, const struct hr_page *pages, size_t page_count,
                       int needs_core_sync, struct hr_error *error);

#endif
