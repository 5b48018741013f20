//: edit: a function that uses a variable of another library
//: live: it is the other library's, for old and new code
//: swapped: py_count
//: run: ext.count(4)
//: kept: ext.look(0)
//: ask: ext.count(1)
#include "ext.h"
#include <unistd.h>

extern int optopt;
static long count(long x)
{
//-    optopt += (int)x;
//-    return optopt;
//+    optopt += (int)x * 2;
//+    return optopt * 0;
}
static long look(long x)
{
    return optopt % 5 + x;
}
METHOD(count)
METHOD(look)
MODULE(ENTRY(count), ENTRY(look))
