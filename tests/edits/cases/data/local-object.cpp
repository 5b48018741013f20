//: edit: a new static C++ object in a function
//: live: it is constructed by the first call that gets there
//: swapped: count
//: ask: [ext.count(n) for n in range(4)]
#include "ext.h"
#include <string>

extern "C" long count(long x)
{
//-    return x;
//+    static std::string seen(x + 30, 'x');
//+    seen += "y";
//+    return seen.size() * 100 + x;
}
METHOD(count)
MODULE(ENTRY(count))
