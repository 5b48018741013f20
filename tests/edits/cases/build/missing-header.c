//: edit: a header that is not there
//: build error: the compiler's text is shown; the old code serves
//: ask: ext.area(3)
#include "ext.h"
//+#include "not_there.h"

static long area(long x)
{
    return x * 3;
}
METHOD(area)
MODULE(ENTRY(area))
