/* maps.c: a three-call iterator over /proc/self/maps.
 *
 *   7f1c2a200000-7f1c2a228000 r-xp 00001000 fe:00 1234    /usr/lib/...so
 *   start        end          prot private                path, may contain blanks
 *
 * Context: outside the point of no return. No allocation. The kernel gives whole lines in each read; between two
 * reads other threads may map and unmap, so what is learned here is a hint wherever it is not checked again.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum hr_status hr_maps_open(struct hr_maps *maps, struct hr_error *error) {
    maps->pos = maps->len = 0;
    maps->error = error;
    maps->status = HR_OK;
    maps->fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps->fd < 0)
        return hr_refuse_call(error, HR_MAPS, "open /proc/self/maps", errno);
    return HR_OK;
}

void hr_maps_close(struct hr_maps *maps) {
    close(maps->fd);
}

/* Makes sure that one whole line is in the buffer; returns its end, or NULL. */
static char *fill_line(struct hr_maps *maps) {
    for (;;) {
        char *end = memchr(maps->text + maps->pos, '\n', maps->len - maps->pos);
        if (end)
            return end;
        memmove(maps->text, maps->text + maps->pos, maps->len - maps->pos);
        maps->len -= maps->pos;
        maps->pos = 0;
        ssize_t got = read(maps->fd, maps->text + maps->len, sizeof maps->text - maps->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            maps->status = hr_refuse_call(maps->error, HR_MAPS, "read /proc/self/maps", errno);
        if (got <= 0)
            return NULL;
        maps->len += (size_t)got;
    }
}

static const char *parse_hex(const char *text, uintptr_t *number) {
    *number = 0;
    for (;; text++) {
        unsigned digit;
        if (*text >= '0' && *text <= '9')
            digit = (unsigned)(*text - '0');
        else if (*text >= 'a' && *text <= 'f')
            digit = (unsigned)(*text - 'a') + 10;
        else
            return text;
        *number = *number << 4 | digit;
    }
}

/* After the protection: "00001000 fe:00 1234", the offset and the device in hexadecimal, the inode in decimal. */
static void parse_file(const char *at, struct hr_mapping *mapping) {
    uintptr_t offset, major, minor;
    at = parse_hex(at, &offset);
    at = parse_hex(at + 1, &major);
    at = parse_hex(at + 1, &minor);
    mapping->device = major << 32 | minor;
    mapping->inode = 0;
    for (at++; *at >= '0' && *at <= '9'; at++)
        mapping->inode = mapping->inode * 10 + (uint64_t)(*at - '0');
}

int hr_maps_next(struct hr_maps *maps, struct hr_mapping *mapping) {
    char *end = fill_line(maps);
    if (!end)
        return 0;
    const char *at = maps->text + maps->pos;
    maps->pos = (size_t)(end - maps->text) + 1;
    *end = 0;
    at = parse_hex(at, &mapping->start);
    at = parse_hex(at + 1, &mapping->end);
    mapping->prot = (at[1] == 'r' ? HR_MAP_R : 0) | (at[2] == 'w' ? HR_MAP_W : 0) | (at[3] == 'x' ? HR_MAP_X : 0);
    mapping->is_private = at[4] == 'p';
    parse_file(at + 6, mapping);
    const char *path = strchr(at, '[');
    mapping->is_heap = path && !strcmp(path, "[heap]");
    mapping->is_stack = path && !strcmp(path, "[stack]");
    return 1;
}
