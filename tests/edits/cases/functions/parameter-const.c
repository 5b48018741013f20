//: edit: const added to what a parameter points to
//: nothing to do: callers pass the same thing
//: ask: ext.length(3)
#include "ext.h"

//-long measure(char *text)
//+long measure(const char *text)
{
    return (long)strlen(text);
}
static long length(long x)
{
    char text[8] = "abcdefg";
    text[x & 7] = 0;
    return measure(text);
}
METHOD(length)
MODULE(ENTRY(length))
