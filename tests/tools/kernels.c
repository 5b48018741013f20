#include <unistd.h>

long served = 40;
static long hidden = 7;
static __thread long mine = 4;

long hold(int fd)
{
    static long held;
    char byte;
    held += 1;
    return read(fd, &byte, 1) + held;
}

long spin(volatile int *stop)
{
    long turns = 0;
    while (!*stop)
        turns += 3;
    return turns;
}

long score(long base, int weight)
{
    static long calls;
    long scaled = base * weight;
    calls += 1;
    hidden += scaled;
    mine += scaled;
    if (weight > 100)
        hidden = 0;
    return scaled + served;
}

long add(long a, long b) { return a + b; }
long ab(long a) { return add(a, 1) * 2; }
