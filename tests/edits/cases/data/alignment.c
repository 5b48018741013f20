//: edit: a variable that must be aligned to a page
//: refused variable-layout: the live one stays where it is, and new code would rely on its alignment
//: run: ext.more(3)
//: ask: ext.more(2)
#include "ext.h"

//-static double lanes[8];
//+static double lanes[8] __attribute__((aligned(4096))); //!
static long more(long x)
{
    for (int i = 0; i < 8; i++)
        lanes[i] += x;
    return (long)lanes[7];
}
METHOD(more)
MODULE(ENTRY(more))
