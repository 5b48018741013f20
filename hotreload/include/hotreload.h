/* hotreload.h: for C code that wants to say which of its functions may be changed while the program runs.
 *
 *     #include "hotreload.h"
 *     HOTPATCHABLE static double blend(double a, double b) { ... }
 *
 * In an extension that is built by `hotreload cc` every function can be changed, marked or not: the mark then
 * only keeps the function whole (never inlined, cloned or seen through), so that a change to it is a change of
 * one function. Compiled in any other way the mark also gives the function its hook prologue, which
 * `hotreload.redirect(old, new)` can use:
 *
 *     -32 .. -1   padding that is never reached
 *     entry       lea 0x0(%rsp),%rsp     GCC's ms_hook_prologue: one instruction of 8 bytes that does nothing
 *     entry + 8   the function
 *
 * noipa matters as much as noinline: without it GCC keeps values in registers that the old body happened not to
 * touch, and the replacement may.
 *
 * The directory of this file is hotreload.get_include().
 */
#ifndef HOTRELOAD_H
#define HOTRELOAD_H

#if !defined(__x86_64__) || !defined(__linux__)
#define HOTPATCHABLE
#elif defined(__clang__)
#if defined(__HOTRELOAD__)
#define HOTPATCHABLE __attribute__((noinline, used))
#else
#define HOTPATCHABLE __attribute__((noinline, used, aligned(16), patchable_function_entry(24, 16)))
#endif
#elif defined(__HOTRELOAD__)
#define HOTPATCHABLE __attribute__((noinline, noclone, noipa))
#else
#define HOTPATCHABLE __attribute__((ms_hook_prologue, aligned(16), noinline, noclone, noipa))
#endif

#endif
