//: edit: a function becomes indirect
//: refused ifunc: who has its address would go on calling the old one
//: ask: ext.area(3)
#include "ext.h"

//-long area(long x) { return x * 3; }
//+static long fast(long x) { return x * 4; }
//+static long (*choose(void))(long) { return fast; } //!
//+long area(long x) __attribute__((ifunc("choose")));
METHOD(area)
MODULE(ENTRY(area))
