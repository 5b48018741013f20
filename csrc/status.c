/* status.c: names, families, texts and hints, all from the one list in status.h; and the filling of an error.
 *
 * Context: anywhere. No allocation, no system call; a refusal must work when memory has run out.
 */
#include "internal.h"

#include <string.h>

struct text {
    const char *name, *family, *text, *hint;
};

static const struct text texts[] = {
#define X(name, family, text, hint) {#name, #family, text, hint},
    HR_STATUSES(X)
#undef X
};

static const struct text *text_of(int status) {
    static const struct text unknown = {"UNKNOWN", "STAGE", "unknown refusal", ""};
    return status >= 0 && status < HR_STATUS_COUNT ? &texts[status] : &unknown;
}

const char *hr_status_name(int status) {
    return text_of(status)->name;
}

const char *hr_status_family(int status) {
    return text_of(status)->family;
}

const char *hr_status_text(int status) {
    return text_of(status)->text;
}

const char *hr_status_hint(int status) {
    return text_of(status)->hint;
}

int hr_status_count(void) {
    return HR_STATUS_COUNT;
}

enum hr_status hr_refuse(struct hr_error *error, enum hr_status status) {
    memset(error, 0, sizeof *error);
    error->status = (int)status;
    return status;
}

enum hr_status hr_refuse_call(struct hr_error *error, enum hr_status status, const char *call, int errnum) {
    hr_refuse(error, status);
    error->call = call;
    error->errnum = errnum;
    return status;
}

static void copy(char *to, size_t room, const char *from) {
    size_t len = strnlen(from, room - 1);
    memcpy(to, from, len);
    to[len] = 0;
}

void hr_error_name(struct hr_error *error, const char *name) {
    copy(error->name, sizeof error->name, name);
}

void hr_error_detail(struct hr_error *error, const char *detail) {
    copy(error->detail, sizeof error->detail, detail);
}
