//: edit: other compiler options, from a file that the build reads
//: refused flags-changed: code of both would not agree on what a char is
//: flags: -O2 -specs=ext.specs
//: ask: ext.least(3)
//@ ext.specs
*cc1_options:
//-+ -fsigned-char
//++ -funsigned-char
//@ ext.c
#include "ext.h"

static long least(long x)
{
    char c = (char)-x;
//-    return c;
//+    return c - 1;
}
METHOD(least)
MODULE(ENTRY(least))
