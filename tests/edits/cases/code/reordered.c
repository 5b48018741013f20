//: edit: functions in another order
//: nothing to do: each is what it was
//: run: ext.area(1), ext.edge(1)
//: ask: ext.area(3), ext.edge(3)
#include "ext.h"

//-long area(long x)
//-{
//-    static long n = 3;
//-    return x * n++;
//-}
long edge(long x)
{
    static long n = 5;
    return x + n++;
}
//+long area(long x)
//+{
//+    static long n = 3;
//+    return x * n++;
//+}
METHOD(area)
METHOD(edge)
MODULE(ENTRY(area), ENTRY(edge))
