//: edit: a pointer becomes an array of the same size
//: refused variable-type: new code would read the address as text
//: run: ext.put(65)
//: kept: ext.first(0)
//: ask: ext.first(0)
#include "ext.h"

//-static char *name = "x";
//+static char name[8] = "x"; //!
static char text[8] = "abc";
static long put(long x)
{
    text[0] = (char)x;
//-    name = text;
//+    strcpy(name, text);
    return 0;
}
static long first(long x)
{
    return name[x & 7];
}
METHOD(put)
METHOD(first)
MODULE(ENTRY(put), ENTRY(first))
