/* A little of everything that compilers do to functions: each answer depends on all of it, and on no earlier call. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define STEP 3

struct point { long x, y; };
typedef long (*operation)(long, long);

static long complaints;
static const long digits[8] = {3, 1, 4, 1, 5, 9, 2, 6};

static inline long mix(long a, long b)
{
    return a * 2 + b;
}

static long add(long a, long b) { return a + b; }
static long sub(long a, long b)
{
    return a - b;
}
static long mul(long a, long b) { return a * b; }

static operation operations[] = {add, sub, mul};
static const operation constant_operations[] = {sub, mul, add};

static __attribute__((cold, noinline)) long complain(const char *why)
{
    complaints++;
    return (long)strlen(why);
}

static long sum(int count, ...)
{
    va_list list;
    long total = 0;
    va_start(list, count);
    while (count--)
        total += va_arg(list, int);
    va_end(list);
    return total;
}

static long fib(long n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static __attribute__((noinline)) long fold(long n, long step)
{
    struct point p = {n, step};
    struct point q[2] = {p, {p.y, p.x}};
    long total = 0;
    for (long i = 0; i < 8; i += 1)
        total = mix(total, digits[(i * step) & 7] + q[i & 1].x);
    return total;
}

static long choose(long n)
{
    switch (n) {
    case 0: return 10;
    case 1: return fib(9);
    case 2: return 30 - n;
    case 3: return fold(n, 2);
    case 4: return n * 7;
    case 5: return sum(3, 1, 2, (int)n);
    case 6: return -6;
    case 7: return mix(7, n);
    default: return n;
    }
}

/* here */

static long folded(long n)
{
    return fold(n, STEP);
}

EXPORT long calls(void)
{
    static long count;
    return ++count;
}

EXPORT long history(long n)
{
    static long seen[4];
    seen[n & 3] += 1;
    return seen[n & 3];
}

EXPORT long probe(long n)
{
    long fresh[4] = {0};
    if (n < 0)
        return complain("negative");
    fresh[n & 3] = operations[n % 3](n, 5) + constant_operations[n % 3](2, n);
    return choose(n) * 1000003 + folded(n) * 31 + fresh[0] + 2 * fresh[1] + 3 * fresh[2] + 5 * fresh[3];
}

EXPORT const char *describe(long n)
{
    static char text[64];
    snprintf(text, sizeof text, "%s %ld", n > 2 ? "many" : "few", n);
    return text;
}

EXPORT double ratio(double x)
{
    return x * 0.75 + 1.0 / 3;
}
