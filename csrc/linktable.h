/* linktable.h: the flat link table that a patch carries.
 *
 * Written by hotreload/patch/linktable.py where the patch is built, read by image.c inside the server.
 * Names and relocations were resolved where they are still exact, in the object file, so that the server
 * only adds numbers. Everything is little-endian; every record is a multiple of 8 bytes; the arrays follow
 * the header in the order of its counts; the strings come last.
 *
 *   +--------+----------+--------+---------+-----------+---------+-----------+--------+-------+--------+---------+
 *   | header | segments | fixups | imports | libraries | carried | functions | ranges | hooks | tables | strings |
 *   +--------+----------+--------+---------+-----------+---------+-----------+--------+-------+--------+---------+
 *
 *   image offset: bytes from the first byte of the mapped generation (the ELF vaddr, which starts at 0)
 *   base offset:  bytes from the load bias of the base extension (its ELF vaddr)
 *   string:       offset of a NUL-terminated name in the strings
 *
 * The table is the section ".hotreload.link" (not loaded) of an ordinary ELF shared library.
 */
#ifndef HR_LINKTABLE_H
#define HR_LINKTABLE_H

#include <stdint.h>

#define HR_LINK_MAGIC   "HRLINK03"
#define HR_LINK_SECTION ".hotreload.link"

enum { HR_LINK_VERSION = 3 }; /* the digits of HR_LINK_MAGIC */

struct hr_link_header {
    char magic[8];         /* HR_LINK_MAGIC, without its NUL */
    uint64_t total_len;    /* bytes of the whole table, this header included */
    uint64_t image_len;    /* bytes of address space, a multiple of the page size */
    uint64_t eh_frame;     /* image offset of .eh_frame, which ends in a zero word; 0: there is none */
    uint64_t eh_frame_len; /* its bytes, the zero word included */
    uint8_t build_id[32];  /* of the base; unused bytes are zero */
    uint32_t build_id_len; /* 1..32 */
    uint32_t segment_count;
    uint32_t fixup_count;
    uint32_t import_count;
    uint32_t library_count;
    uint32_t carried_count;
    uint32_t function_count;
    uint32_t range_count;
    uint32_t hook_count;
    uint32_t string_len;
    uint32_t flags; /* HR_LINK_DATA_ESCAPES */
    uint32_t table_count;
};

/* The image has read-only data besides code, unwind tables, jump tables and constants of a fixed size, or code whose
 * address is taken: the program may keep a pointer into it, so it can never be proven unused. */
enum { HR_LINK_DATA_ESCAPES = 1 };

enum { HR_LINK_R = 1, HR_LINK_W = 2, HR_LINK_X = 4 };

/* One run of pages with one final protection; ascending, disjoint, image_off a multiple of the page size.
 * A RELRO region is a segment of its own with prot R. */
struct hr_link_segment {
    uint64_t image_off;
    uint64_t mem_len;  /* bytes in memory; beyond file_len they are zero */
    uint64_t file_off; /* in the ELF file */
    uint64_t file_len;
    uint32_t prot; /* HR_LINK_*; never W and X together */
    uint32_t reserved;
};

/* How one field of the image is filled. P is the address of the field, A the addend. */
#define HR_LINK_FIXUPS(X)                                                                                              \
    X(1, IMAGE64, "8 bytes: image + A")                                                                                \
    X(2, BASE64, "8 bytes: base bias + A")                                                                             \
    X(3, BASE_PC32, "4 bytes: base bias + A - P, refused when out of range")                                           \
    X(4, BASE_PC64, "8 bytes: base bias + A - P")                                                                      \
    X(5, IMPORT64, "8 bytes: import[target] + A")                                                                      \
    X(6, CARRIED64, "8 bytes: carried[target] + A")                                                                    \
    X(7, CARRIED_PC32, "4 bytes: carried[target] + A - P, refused when out of range")                                  \
    X(8, CARRIED_PC64, "8 bytes: carried[target] + A - P")                                                             \
    X(9, BASE_DTPMOD, "8 bytes: the base's TLS module id")                                                             \
    X(10, BASE_TPOFF, "8 bytes: A - (thread pointer - the base's static TLS block)")                                   \
    X(11, IMPORT_DTPMOD, "8 bytes: TLS module id of the library that has import[target]")                              \
    X(12, IMPORT_DTPOFF, "8 bytes: offset of import[target] in its module's block, plus A")                            \
    X(13, IMPORT_TPOFF, "8 bytes: offset of import[target] from the thread pointer, plus A")                           \
    X(14, IRELATIVE, "8 bytes: the result of calling the resolver at image + A")                                       \
    X(15, BASE_IFUNC64, "8 bytes: the result of calling the resolver at base bias + A")                                \
    X(16, BASE_IFUNC_PC32, "4 bytes: the resolver at base bias + target, called, + A - P")

enum hr_link_fixup_kind {
#define X(number, name, text) HR_FIX_##name = number,
    HR_LINK_FIXUPS(X)
#undef X
};

struct hr_link_fixup {
    uint64_t where; /* image offset of the field */
    int64_t addend;
    uint32_t kind;   /* enum hr_link_fixup_kind */
    uint32_t target; /* index into imports or carried; for BASE_IFUNC_PC32 a base offset; else 0 */
};

enum { HR_IMPORT_WEAK = 1 }; /* may stay unresolved: then it is 0 */

struct hr_link_import {
    uint32_t name;    /* string */
    uint32_t version; /* string; the empty string: any version */
    uint32_t flags;
    uint32_t reserved;
};

struct hr_link_library {
    uint32_t name; /* string: a DT_NEEDED that the base does not have */
    uint32_t reserved;
};

enum { HR_CARRIED_FUNCTION = 1 };

/* Something that the base does not have: a new variable or function. The first generation that brings it
 * owns it; later ones are bound to that owner, so that its state and its address stay. */
struct hr_link_carried {
    uint32_t key; /* string, unique in the module and stable over generations: "unit:name" */
    uint32_t flags;
    uint64_t image_off; /* this generation's own copy */
    uint64_t size;      /* in bytes; of a function its body alone, without its pieces */
};

enum { HR_FUNCTION_BASE = 0, HR_FUNCTION_CARRIED = 1 };

/* A replacement: the entry of target is to be redirected to image_off. */
struct hr_link_function {
    uint32_t name;   /* string, as a person knows it */
    uint32_t target; /* HR_FUNCTION_BASE or HR_FUNCTION_CARRIED */
    uint64_t entry;  /* base offset, or index into carried */
    uint64_t image_off;
};

/* Code of the base that belongs to a replaced function: its body, and what the compiler split off it (.cold, .part,
 * .isra, .constprop). A thread with a return address in there is inside the old definition. Ranges come in the order
 * of their functions; each function of the base has one that holds its entry, carried functions have none. */
struct hr_link_range {
    uint32_t function; /* index into functions */
    uint32_t reserved;
    uint64_t base_off;
    uint64_t len; /* never 0 */
};

enum { HR_HOOK_PRE_COMMIT = 1, HR_HOOK_POST_COMMIT = 2, HR_HOOK_POST_ROLLBACK = 3 };

/* A migration hook, int (struct hotreload_context *), see hotreload.h. The server calls hooks of one kind in the order
 * in which they stand here. */
struct hr_link_hook {
    uint32_t kind; /* HR_HOOK_* */
    uint32_t name; /* string */
    uint64_t image_off;
};

enum { HR_TABLE_METHODS = 1, HR_TABLE_GETSET = 2, HR_TABLE_MEMBERS = 3 };

/* 2, 4 and 8: ml_meth; get, set, closure; type, offset, flags. Of what is not another the live value counts, whatever
 * it was set to since. */
enum { HR_TABLE_TEXT = 1, HR_TABLE_BITS = 15 };

/* A table of Python's (PyMethodDef, PyGetSetDef, PyMemberDef) as the sources have it now, to be shown on the modules
 * and types that were made from the one in the base. It is read when the generation becomes live, and never pointed to.
 */
struct hr_link_table {
    uint32_t kind;       /* HR_TABLE_* */
    uint32_t name;       /* string: the variable's */
    uint64_t base_off;   /* the live one */
    uint64_t image_off;  /* the one of the sources, in writable data */
    uint32_t base_count; /* entries, without the empty one at the end; of members never 0 */
    uint32_t count;
    uint32_t changes; /* string: for each entry of the base what of it is another, 'a' + HR_TABLE_* bits */
    uint32_t reserved;
};

#endif
