//: edit: a string literal
//: live: new code has its own; a pointer to the old one that was kept stays valid
//: swapped: word
//: run: ext.keep(0)
//: kept: kept.text()
//: ask: word.text(), word.text()
#include "ext.h"

static const char *first = "none";
const char *word(void)
{
//-    return "old words";
//+    return "other words, and more of them";
}
const char *kept(void)
{
    return first;
}
static long keep(long x)
{
    first = word();
    return x;
}
METHOD(keep)
MODULE(ENTRY(keep))
