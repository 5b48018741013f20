//: edit: the body of a function with variable arguments
//: live: arguments arrive as the old one would have got them
//: swapped: total
//: ask: ext.mean(3), ext.mean(-4)
#include "ext.h"
#include <stdarg.h>

double total(long n, ...)
{
    va_list list;
    double sum = 0;
    va_start(list, n);
    while (n--)
//-        sum += va_arg(list, double);
//+        sum = sum * 2 + va_arg(list, double);
    va_end(list);
    return sum;
}
static long mean(long x)
{
    return (long)total(9L, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, x * 1.0);
}
METHOD(mean)
MODULE(ENTRY(mean))
