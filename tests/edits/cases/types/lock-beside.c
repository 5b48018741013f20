//: edit: a field more in a struct on the stack, beside a live lock
//: live: a lock is a `void *` too, and nobody keeps such structs behind it
//: swapped: py_area
//: ask: ext.area(3), ext.area(4)
#include "ext.h"

static PyThread_type_lock lock;
struct shape {
//+    long kind;
    long size;
};
static long area(long x)
{
    struct shape shape = {.size = x}, *volatile p = &shape;
    if (lock == NULL)
        lock = PyThread_allocate_lock();
    PyThread_acquire_lock(lock, 1);
    x = p->size * 3;
    PyThread_release_lock(lock);
    return x;
}
METHOD(area)
MODULE(ENTRY(area))
