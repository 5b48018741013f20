//: edit: lines moved down, with assert() below
//: nothing to do: the line in the assertion moved with its text
//: ask: ext.half(4)
#include "ext.h"
#undef NDEBUG
#include <assert.h>

//+/* Halves. */
//+
static long half(long x)
{
    assert(x % 2 == 0);
    return x / 2;
}
METHOD(half)
MODULE(ENTRY(half))
