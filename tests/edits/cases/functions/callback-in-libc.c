//: edit: a callback that another library has
//: live: its entry leads to new code
//: swapped: on_key
//: run: ext.create(0)
//: ask: ext.fire(5)
#include "ext.h"
#include <pthread.h>

static pthread_key_t key;
static long heard;
static void on_key(void *value)
{
//-    heard += (long)value;
//+    heard += (long)value * 100;
}
static void *body(void *value)
{
    pthread_setspecific(key, value);
    return NULL;
}
static long create(long x) { return x + pthread_key_create(&key, on_key); }
static long fire(long x)
{
    pthread_t thread;
    pthread_create(&thread, NULL, body, (void *)x);
    pthread_join(thread, NULL);
    return heard;
}
METHOD(create)
METHOD(fire)
MODULE(ENTRY(create), ENTRY(fire))
