//: edit: the condition of an assert()
//: live: it is code, and its text is a string
//: swapped: py_half
//: ask: ext.half(4), ext.half(5)
#include "ext.h"
#undef NDEBUG
#include <assert.h>

static long half(long x)
{
//-    assert(x > 0);
//+    assert(x >= 0 && x < 1000);
    return x / 2;
}
METHOD(half)
MODULE(ENTRY(half))
