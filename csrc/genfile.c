/* genfile.c: makes the file of a generation, which genfile.h draws.
 *
 * Everything is written before a byte of it is mapped. The descriptor comes from Python, which knows where files may
 * be kept; without one it is a memfd. A file is mapped only when it is ours alone: who can write it, can change code.
 * And only from this machine: over a network, a page of code may not come, and the thread that needs it gets a SIGBUS.
 *
 * Context: stage.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Where vm.memfd_noexec asks for it the file must be sealed against exec; that forbids running it as a program, not
 * mapping it. Kernels before 6.3 do not know the flag. */
int hr_memfd_open(const char *name) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create(name, MFD_CLOEXEC);
    return fd;
}

/* File systems of other machines by f_type, by number since linux/magic.h has not all of them everywhere. */
static int is_elsewhere(const struct statfs *system) {
    switch ((uint32_t)system->f_type) {
    case 0x00006969: /* NFS */
    case 0x0000517B: /* SMB */
    case 0xFF534D42: /* CIFS */
    case 0xFE534D42: /* SMB2 */
    case 0x5346414F: /* AFS */
    case 0x6B414653: /* AFS, the kernel's own */
    case 0x73757245: /* Coda */
    case 0x00C36400: /* Ceph */
    case 0x01021997: /* 9P */
    case 0x0BD00BD0: /* Lustre */
    case 0x47504653: /* GPFS */
    case 0x65735546: /* FUSE: may be anything */
        return 1;
    default:
        return 0;
    }
}

static enum hr_status check_place(int fd, struct hr_error *error) {
    struct statfs system;
    struct stat file;
    if (fstatfs(fd, &system))
        return hr_refuse_call(error, HR_MAP, "fstatfs", errno);
    if (is_elsewhere(&system))
        return hr_refuse_call(error, HR_MAP, "a file that is not on a disk of this machine", ENOTSUP);
    if (fstat(fd, &file))
        return hr_refuse_call(error, HR_MAP, "fstat", errno);
    if (!S_ISREG(file.st_mode) || file.st_uid != geteuid() || file.st_mode & (S_IWGRP | S_IWOTH) || file.st_size)
        return hr_refuse_call(error, HR_MAP, "a file that others can write", EPERM);
    return HR_OK;
}

static int is_zero(const uint8_t *page) {
    return !page[0] && !memcmp(page, page + 1, HR_PAGE - 1);
}

static enum hr_status write_all(int fd, const uint8_t *bytes, uint64_t len, uint64_t at, struct hr_error *error) {
    while (len) {
        ssize_t done = pwrite(fd, bytes, len, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return hr_refuse_call(error, HR_MAP, "pwrite", done < 0 ? errno : ENOSPC);
        bytes += done;
        at += (uint64_t)done;
        len -= (uint64_t)done;
    }
    return HR_OK;
}

/* Pages of zeros stay holes, so a big .bss costs nothing. */
static enum hr_status write_file(int fd, const struct hr_genfile *file, struct hr_error *error) {
    enum hr_status status = HR_OK;
    if (ftruncate(fd, (off_t)(file->image_len + file->tail_len)))
        return hr_refuse_call(error, HR_MAP, "ftruncate", errno);
    for (uint64_t at = 0; at < file->image_len && !status; at += HR_PAGE)
        if (!is_zero(file->image + at))
            status = write_all(fd, file->image + at, HR_PAGE, at, error);
    if (!status)
        status = write_all(fd, file->tail, file->tail_len, file->image_len, error);
    return status;
}

static uint8_t *byte_at(const struct hr_genfile *file, uint64_t where) {
    return where < file->image_len ? file->image + where : file->tail + (where - file->image_len);
}

/* What the patch's own build-id does not tell: where it is bound to. The same in forked processes that agree. */
static void sign(struct hr_genfile *file, uintptr_t address, uint64_t build_id_off) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ address, word;
    for (uint64_t at = 0; at < file->image_len; at += sizeof word) {
        memcpy(&word, file->image + at, sizeof word);
        hash = (hash ^ word) * UINT64_C(0x100000001b3);
        hash ^= hash >> 32;
    }
    uint8_t *id = file->image + build_id_off;
    memcpy(&word, id + HR_BUILD_ID_LEN - sizeof word, sizeof word);
    word ^= hash;
    memcpy(id + HR_BUILD_ID_LEN - sizeof word, &word, sizeof word);
    memcpy(file->build_id, id, HR_BUILD_ID_LEN);
    file->build_id_len = HR_BUILD_ID_LEN;
}

enum hr_status hr_genfile_fill(const struct hr_binding *binding, uintptr_t address, const char *number,
                               struct hr_genfile *file) {
    const struct hr_debug *debug = &binding->patch->debug;
    if (!debug->header)
        return HR_OK;
    file->tail_len = debug->header->tail_len;
    file->tail = malloc(file->tail_len + 1);
    if (!file->tail) {
        binding->error->length = file->tail_len;
        return hr_refuse_call(binding->error, HR_NO_MEMORY, "malloc", errno);
    }
    memcpy(file->tail, debug->tail, file->tail_len);
    memcpy(file->image, debug->head, debug->header->head_len);
    for (uint32_t i = 0; i < debug->header->place_count; i++) {
        const struct hr_debug_place *place = &debug->places[i];
        uint8_t *at = byte_at(file, place->where);
        uint64_t value;
        memcpy(&value, at, sizeof value);
        value += place->kind == HR_PLACE_IMAGE ? address : binding->base->object.bias;
        memcpy(at, &value, sizeof value);
    }
    size_t len = strnlen(number, HR_NUMBER_ROOM);
    for (uint32_t i = 0; i < debug->header->name_count; i++) {
        uint8_t *at = byte_at(file, debug->names[i].where);
        memset(at, 0, HR_NUMBER_ROOM);
        memcpy(at, number, len);
    }
    sign(file, address, debug->header->build_id_off);
    return HR_OK;
}

enum hr_status hr_genfile_write(const struct hr_genfile *file, int given, const char *name, int *fd,
                                struct hr_error *error) {
    enum hr_status status = given < 0 ? HR_OK : check_place(given, error);
    if (status)
        return status;
    int opened = given < 0 ? hr_memfd_open(name) : dup(given);
    if (opened < 0)
        return hr_refuse_call(error, HR_MAP, given < 0 ? "memfd_create" : "dup", errno);
    status = write_file(opened, file, error);
    if (!status && given >= 0 && fchmod(opened, S_IRUSR | S_IXUSR))
        status = hr_refuse_call(error, HR_MAP, "fchmod", errno);
    if (status)
        close(opened);
    else
        *fd = opened;
    return status;
}

void hr_genfile_close(struct hr_genfile *file) {
    free(file->image);
    free(file->tail);
}
