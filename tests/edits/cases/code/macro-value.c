//: edit: the value of a macro that three functions use
//: live: the three are swapped together
//: swapped: area edge limit
//: ask: ext.area(3), ext.edge(3), limit(4), other(2)
#include "ext.h"

//-#define SIZE 16
//+#define SIZE 24

long area(long x)
{
    return x * SIZE;
}
long edge(long x)
{
    return x + SIZE;
}
long limit(long x)
{
    return x > SIZE ? SIZE : x - SIZE;
}
long other(long x)
{
    return x + 16;
}
METHOD(area)
METHOD(edge)
MODULE(ENTRY(area), ENTRY(edge))
