/* frames.c: unwind tables of a generation, made known to the unwinder of this process.
 *
 *   .eh_frame   | len CIE | len FDE | len FDE | ... | 0 |
 *                  ^         | offset back to its CIE
 *                  +---------+
 *
 * Without it a C++ exception that passes a new frame ends in std::terminate, and backtrace() stops there. The
 * unwinder trusts what it is given, so the chain of lengths is walked first, in the private copy of the file.
 *
 * Context: stage and unstage. libgcc keeps a pointer to the table: it is taken back before the memory is unmapped.
 */
#include "internal.h"

#include <string.h>

/* libgcc_s; it reads the table up to the zero word. Closing what was never opened would abort: open and close are
 * paired by image.c. */
extern void __register_frame(void *begin);
extern void __deregister_frame(void *begin);

static uint32_t word_at(const uint8_t *frames, uint64_t at) {
    uint32_t word;
    memcpy(&word, frames + at, sizeof word);
    return word;
}

static enum hr_status bad(struct hr_error *error, const char *what, uint64_t at, uint64_t len) {
    hr_refuse(error, HR_BAD_TABLE);
    hr_error_name(error, what);
    error->value = at;
    error->limit = len;
    return HR_BAD_TABLE;
}

enum hr_status hr_frames_check(const uint8_t *frames, uint64_t len, struct hr_error *error) {
    uint64_t at = 0;
    while (len - at >= 4) {
        uint32_t record = word_at(frames, at);
        if (!record)
            return at + 4 == len ? HR_OK : bad(error, "eh_frame: ends before its length", at + 4, len);
        /* 0xffffffff announces a 64-bit length, which no compiler emits for x86-64 code. */
        if (record < 4 || record > len - at - 4)
            return bad(error, "eh_frame: a record leaves it", at, len);
        uint64_t field = at + 4;
        uint32_t back = word_at(frames, field);
        if (back && (back > field || field - back + 8 > len || word_at(frames, field - back + 4)))
            return bad(error, "eh_frame: a record has no CIE", at, len);
        at = field + record;
    }
    return bad(error, "eh_frame: no zero word at its end", at, len);
}

void hr_frames_open(uintptr_t frames) {
    __register_frame((void *)frames);
}

void hr_frames_close(uintptr_t frames) {
    __deregister_frame((void *)frames);
}
