//: edit: a call of a library function that was not used before
//: live: it is found where the extension finds its others
//: swapped: py_compare
//: ask: [ext.compare(n) for n in range(3)]
#include "ext.h"
#include <strings.h>

static long compare(long x)
{
    const char *words[] = {"Spoon", "sPOON", "fork"};
//-    return strcmp(words[0], words[x]) == 0;
//+    return strcasecmp(words[0], words[x]) == 0;
}
METHOD(compare)
MODULE(ENTRY(compare))
