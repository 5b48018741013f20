/* internal.h: what the files of the core share among themselves. */
#ifndef HR_INTERNAL_H
#define HR_INTERNAL_H

#include "core.h"
#include "linktable.h"

enum { HR_PAGE = 4096 };

#define HR_PROLOGUE_NOPL UINT64_C(0x0000000000841f0f) /* 0f 1f 84 00 00 00 00 00   nopl 0x0(%rax,%rax,1) */
#define HR_PROLOGUE_LEA  UINT64_C(0x0000000024a48d48) /* 48 8d a4 24 00 00 00 00   lea 0x0(%rsp),%rsp */

static inline uint64_t hr_page_up(uint64_t n) {
    return (n + HR_PAGE - 1) & ~(uint64_t)(HR_PAGE - 1);
}

static inline uint64_t hr_page_down(uint64_t n) {
    return n & ~(uint64_t)(HR_PAGE - 1);
}

/* status.c */
enum hr_status hr_refuse(struct hr_error *error, enum hr_status status);
enum hr_status hr_refuse_call(struct hr_error *error, enum hr_status status, const char *call, int errnum);
void hr_error_name(struct hr_error *error, const char *name);
void hr_error_detail(struct hr_error *error, const char *detail);

/* lock.c */
void hr_lock(void);
void hr_unlock(void);

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
    int is_executable;
};

struct hr_base {
    struct hr_object object;
    void *handle;  /* pins the library; its own scope */
    void *process; /* the global scope */
    struct hr_load *loads;
    size_t load_count;
    struct hr_reserve reserve;
};

int hr_base_is_text(const struct hr_base *base, uintptr_t address);

/* image.c */
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
    const char *strings;
    void *table; /* holds all of the above */
};

size_t hr_fixup_len(uint32_t kind);

/* imports.c */
struct hr_imports {
    uintptr_t *addresses; /* one for each import, 0: weak and missing */
    void **libraries;
    size_t library_count;
};

enum hr_status hr_imports_open(const struct hr_patch *patch, const struct hr_base *base, struct hr_imports *imports,
                               struct hr_error *error);
void hr_imports_close(struct hr_imports *imports); /* closes the libraries too */

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

/* frames.c */
enum hr_status hr_frames_check(const uint8_t *frames, uint64_t len, struct hr_error *error);
void hr_frames_open(uintptr_t frames);
void hr_frames_close(uintptr_t frames);

/* barrier.c */
int hr_barrier_sync(void); /* 0, or errno */

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
