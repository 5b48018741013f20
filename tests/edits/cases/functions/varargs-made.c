//: edit: an exported function gets variable arguments
//: refused prototype-changed: old callers do not say how many vector registers they use
//: ask: ext.area(3), total(2)
#include "ext.h"
#include <stdarg.h>

//-long total(long n)
//+long total(long n, ...) //!
{
//-    return n;
//+    va_list list;
//+    va_start(list, n);
//+    long sum = n + (n > 5 ? va_arg(list, long) : 0);
//+    va_end(list);
//+    return sum;
}
static long area(long x)
{
    return total(x) * 2;
}
METHOD(area)
MODULE(ENTRY(area))
