//: edit: a new global variable that two functions use
//: live: it comes with the new code, once
//: swapped: count left
//: ask: [ext.count(n) for n in range(4)], ext.left(3), ext.count(1)
#include "ext.h"

//+long seen = 3;
long count(long x)
{
//-    return x;
//+    return seen += x;
}
long left(long x)
{
//-    return -x;
//+    return seen -= x;
}
METHOD(count)
METHOD(left)
MODULE(ENTRY(count), ENTRY(left))
