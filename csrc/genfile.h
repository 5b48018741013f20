/* genfile.h: a generation as a file that tools can read, and what a patch says about it.
 *
 *   file of a generation   | head | the image, as it is mapped ...     | tail: .debug_*, .symtab, section headers |
 *                          0      head_len                             image_len
 *
 * A byte of the image is at the offset by which its address is behind that of the image; program headers, symbols and
 * debug information have the addresses of this process. So one file is everything: what is mapped, what gdb is told of,
 * what perf and others open, what a core dump is read with. Its build-id is its own.
 *
 * A patch says all that in the section ".hotreload.debug" (not loaded), which may be missing. Written by
 * hotreload/patch/genfile.py; little-endian; the arrays follow the header in the order of its counts:
 *
 *   +--------+------+--------+-------+------+
 *   | header | head | places | names | tail |
 *   +--------+------+--------+-------+------+
 */
#ifndef HR_GENFILE_H
#define HR_GENFILE_H

#include <stdint.h>

#define HR_DEBUG_MAGIC   "HRDEBUG1"
#define HR_DEBUG_SECTION ".hotreload.debug"

enum { HR_BUILD_ID_LEN = 20, HR_NUMBER_ROOM = 10, HR_HEAD_LEN_MAX = 4096 };

struct hr_debug_header {
    char magic[8]; /* HR_DEBUG_MAGIC, without its NUL */
    uint64_t total_len;
    uint64_t tail_len; /* a multiple of 8 */
    uint32_t head_len; /* a multiple of 8: ELF header and program headers, which take the place of the patch's own */
    uint32_t place_count;
    uint32_t name_count;
    uint32_t reserved;
    uint64_t build_id_off; /* image offset of HR_BUILD_ID_LEN bytes */
};

enum { HR_PLACE_IMAGE = 1, HR_PLACE_BASE = 2 };

/* 8 bytes to which an address is added: that of the image, or the load bias of the base. In the head or in the tail. */
struct hr_debug_place {
    uint64_t where; /* offset in the file */
    uint32_t kind;
    uint32_t reserved;
};

/* HR_NUMBER_ROOM bytes of the tail, which get the number of the generation and zeros. */
struct hr_debug_name {
    uint64_t where;
};

_Static_assert(sizeof(struct hr_debug_header) == 48, "as struct.Struct in genfile.py");
_Static_assert(sizeof(struct hr_debug_place) == 16, "as struct.Struct in genfile.py");

#endif
