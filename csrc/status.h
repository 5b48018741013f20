/* status.h: every way in which the core can say no, in one list.
 *
 * The enum, the names, the texts, the hints and the error classes of Python are all made from it, so they cannot
 * drift apart. The family answers the question that an operator asks first: did anything change?
 *
 *   FINE        no refusal
 *   STAGE       nothing is redirected by this call, and what it had mapped is unmapped
 *   TRANSITION  stores were made and all of them were undone: the earlier generation serves
 *   POISONED    an undo failed: what runs is unknown
 */
#ifndef HR_STATUS_H
#define HR_STATUS_H

/* X(name, family, text, hint) */
#define HR_STATUSES(X)                                                                                                 \
    X(OK, FINE, "fine", "")                                                                                            \
    X(FILE_READ, STAGE, "the patch cannot be read", "pass an open, readable descriptor of a patch file")               \
    X(FILE_KIND, STAGE, "the patch is not a regular file", "pass a file or a memfd, not a pipe, device or directory")  \
    X(FILE_SIZE, STAGE, "the patch file is empty or too big", "build the patch again")                                 \
    X(NOT_ELF, STAGE, "the patch is not an x86-64 ELF shared library", "build the patch with hotreload")               \
    X(NO_TABLE, STAGE, "the patch has no link table", "build the patch with hotreload, and do not strip it")           \
    X(TRUNCATED, STAGE, "the patch file ends too early", "copy or build the patch again")                              \
    X(BAD_TABLE, STAGE, "the patch contradicts itself", "build the patch again with this version of hotreload")        \
    X(FORMAT, STAGE, "the patch has another format than this hotreload reads", "build it again with this version")     \
    X(WRITABLE_CODE, STAGE, "the patch asks for memory that is writable and executable", "link it without -z rwx")     \
    X(NEW_TLS, STAGE, "the new code brings a thread-local variable of its own", "restart to add thread-locals")        \
    X(NOT_LOADED, STAGE, "no such library is loaded in this process", "import the extension first")                    \
    X(NO_BUILD_ID, STAGE, "the loaded library has no build-id", "build it with hotreload (-Wl,--build-id)")            \
    X(BUILD_ID, STAGE, "the patch was made for another build of this library", "build the patch against this one")     \
    X(NO_MEMORY, STAGE, "memory ran out", "raise the memory limit of the process")                                     \
    X(MAPS, STAGE, "the memory map of the process cannot be read", "/proc must be mounted and readable")               \
    X(NO_ROOM, STAGE, "no free address space within 2 GB of the library", "restart: the reserve is used up")           \
    X(OUT_OF_RANGE, STAGE, "a reference reaches further than 2 GB", "the two places must be within 2 GB")              \
    X(MAP, STAGE, "the kernel refused to map the new code", "see the system call and its errno")                       \
    X(LIBRARY, STAGE, "a library that the new code needs cannot be loaded", "install it where the loader looks")       \
    X(SYMBOL, STAGE, "the new code needs a symbol that this process does not have", "link the library that has it")    \
    X(TLS, STAGE, "a thread-local variable is not where the new code expects it", "build without -ftls-model")         \
    X(UNALIGNED, STAGE, "the entry of the function is not 8-byte aligned", "rebuild the base with hotreload cc")       \
    X(NOT_TEXT, STAGE, "the entry is not in private executable memory", "pass the address of a compiled function")     \
    X(BREAKPOINT, STAGE, "a debugger or uprobe has a breakpoint on the entry", "delete the breakpoint first")          \
    X(NOT_A_HOOK, STAGE, "the function does not begin with a hook prologue", "rebuild the base with hotreload cc")     \
    X(NOT_A_SLOT, STAGE, "the entry jumps through memory that is no slot of its library", "rebuild with hotreload cc") \
    X(REDIRECTED, STAGE, "the function is redirected already by somebody else", "undo that redirect first")            \
    X(TARGET, STAGE, "the target of a redirect is not executable memory", "pass the address of a function")            \
    X(DUPLICATE, STAGE, "one entry occurs twice in one commit", "redirect every function once")                        \
    X(TEXT_CHANGED, STAGE, "the entry holds other bytes than the last commit left", "another tool patches it too")     \
    X(TEXT_LOCKED, STAGE, "this host does not allow text to be opened for writing", "rebuild with prologue = slot")    \
    X(TRANSLATED, STAGE, "valgrind, or a tool like it, would not see text change", "rebuild with prologue = slot")     \
    X(SLOT_LOCKED, STAGE, "this host does not allow a page of slots to be opened for writing", "see the system call")  \
    X(NO_SYNC, STAGE, "the kernel has no membarrier with core sync", "allow an unsynchronised commit explicitly")      \
    X(MARKER, STAGE, "the crash marker cannot be armed", "see the system call and its errno")                          \
    X(BUSY, STAGE, "another transition is open in this process", "wait for it, reverse it or force it")                \
    X(NO_SCAN, STAGE, "the threads of this process cannot be looked at", "redirect one function at a time")            \
    X(ORDER, STAGE, "the transition is not at that step", "open, begin, finish, close, discard")                       \
    X(SYNC_FAILED, TRANSITION, "core sync failed after the stores; they were undone", "the earlier code serves")       \
    X(TEXT_LEFT_OPEN, TRANSITION, "a page could not be closed; the stores were undone", "it stays writable")           \
    X(POISONED, POISONED, "a store was overwritten or could not be undone", "restart the process")

enum hr_status {
#define X(name, family, text, hint) HR_##name,
    HR_STATUSES(X)
#undef X
        HR_STATUS_COUNT
};

#endif
