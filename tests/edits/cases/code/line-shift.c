//: edit: lines moved down, with __LINE__ in the code below
//: nothing to do: a line number that moved with its text is no change
//: ask: area(3), ext.check(5)
#include "ext.h"

//+
//+
//+/* Two lines of air and a comment. */
//+
long area(long x)
{
    return x * 3;
}
static long check(long x)
{
    if (x < 0)
        PyErr_Format(PyExc_ValueError, "%s:%d: %ld is negative", __FILE__, __LINE__, x);
    return x;
}
METHOD(check)
MODULE(ENTRY(check))
