//: edit: a loop at -O3, vectorised
//: live: its constants and its vectors come with it
//: swapped: mix
//: flags: -O3 -fno-math-errno
//: ask: [mix.double(n) for n in range(4)]
#include "ext.h"

static double weights[64];
double mix(long n)
{
    double sum = 0;
    for (int i = 0; i < 64; i++)
//-        weights[i] = i * 0.5 + n;
//+        weights[i] = i * 0.25 + n * 3;
    for (int i = 0; i < 64; i++)
        sum += weights[i];
    return sum;
}
static long zero(long x)
{
    return 0 * x;
}
METHOD(zero)
MODULE(ENTRY(zero))
