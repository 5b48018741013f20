//: edit: a C++ template that two units instantiate
//: live: the library has one copy, and that one is swapped
//: ask: ext.area(3), edge(3)
//@ shape.h
template <class T> __attribute__((noinline)) T scaled(T x)
{
//-    return x * 10;
//+    return x * 20;
}
//@ ext.cpp
#include "ext.h"
#include "shape.h"

static long area(long x)
{
    return scaled(x) + 1;
}
METHOD(area)
MODULE(ENTRY(area))
//@ edge.cpp
#include "shape.h"

extern "C" long edge(long x)
{
    return scaled(x) + 2;
}
