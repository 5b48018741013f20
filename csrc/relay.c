/* relay.c: what a calling thread runs when its stub cannot decide alone: may it go over to the goal side now?
 *
 *   caller --> entry --> stub --> [arena tail] --> thunk --> hr_relay_decide
 *                         ^                          |          own word     which side am I on?
 *                         |    ZF: FROM              |          my slot      proven outside by the driver: go over
 *                         +--------------------------+          request()    inside one, at that level: stay
 *                         |                                     own stack    none of my side's code on it: go over
 *                         v
 *                     a body of one side
 *
 * A thread writes its own word and nobody else's. What it has done it leaves in its slot, where the driver looks:
 *
 *                      [1] slot = BETWEEN            the driver counts it as settled on neither side
 *                      [2] is the epoch the same?    or else it is the driver who sees [1]: both were fenced
 *                      [3] word = id, or 0
 *                      [4] slot = new side
 *
 * A thread that stays says so in its slot before it looks at the seal, and the driver seals before it looks at the
 * slots once more: one of the two sees the other. A seal that is whole means that none of the left code is on any
 * stack: then everybody goes over without a look at the stack, where dead words might still stand.
 *
 * A signal may interrupt all of this and its handler may call changed functions. Its scan finds the address in the stub
 * to which this call returns, so it stays on the side of the word. Between [1] and [4] it does not touch the slot.
 *
 * Context: in the middle of any call of the host, in signal handlers too. General registers only, since the arguments
 * in the vector registers and on the x87 stack are not saved; no call into libc, no lock, no memory.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#pragma GCC poison malloc calloc realloc free printf fprintf abort exit dlsym memcpy memset pthread_mutex_lock syscall

/* A distribution's flags may ask for a stack protector, which ends the process through libc. */
#if defined(__has_attribute) && __has_attribute(no_stack_protector)
#define GENERAL_ONLY __attribute__((target("general-regs-only"), no_stack_protector))
#else
#define GENERAL_ONLY __attribute__((target("general-regs-only")))
#endif
#define OWN static __thread __attribute__((tls_model("initial-exec")))

enum { CHUNK = 1024, PAGES = 32 };

enum scan { CLEAN, HIT, NOT_OWN };

/* The word that stubs compare with their id. */
OWN uint32_t word;

OWN struct hr_request *own_request;

/* Valid while id is that of the relay. hit: where on the stack the last scan found code of the side. own: the lowest
 * page from which all can be read up to the top, so it is the thread's own stack; 0: not known. foreign: the epoch in
 * which this thread has called from another one. */
OWN struct {
    uint32_t id, tid, foreign;
    struct hr_slot *slot;
    uintptr_t hit, own;
} known;

OWN uintptr_t between; /* from [1] to [4]: where the frames of the caller begin */

int hr_relay_pid;
int hr_is_main_forked;

static struct hr_relay *announced;
static uint32_t visitors;

GENERAL_ONLY static inline long system_call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

GENERAL_ONLY uintptr_t hr_relay_control_block(void) {
    uintptr_t address;
    __asm__("movq %%fs:0x10, %0" : "=r"(address));
    return address;
}

GENERAL_ONLY intptr_t hr_relay_word_offset(void) {
    uintptr_t base;
    __asm__("movq %%fs:0, %0" : "=r"(base));
    return (intptr_t)((uintptr_t)&word - base);
}

GENERAL_ONLY enum hr_side hr_relay_side(const struct hr_relay *relay) {
    return word == relay->id ? HR_TO : HR_FROM;
}

GENERAL_ONLY static int is_gone(uint64_t state) {
    return !state || hr_slot_side(state) == HR_GONE;
}

/* Open addressing: a thread's slot stands before the first one that was never used. Driver and thread may look for the
 * same one at a time: they want the same free one, and who comes second finds the first. NULL: all are taken. */
GENERAL_ONLY struct hr_slot *hr_relay_find(struct hr_relay *relay, uint32_t tid, uint64_t first) {
    for (;;) {
        struct hr_slot *unused = NULL;
        uint64_t before = 0;
        for (uint32_t i = 0; i < HR_SLOTS; i++) {
            struct hr_slot *slot = &relay->slots[(tid + i) % HR_SLOTS];
            uint64_t state = __atomic_load_n(&slot->state, __ATOMIC_SEQ_CST);
            if (!is_gone(state) && hr_slot_tid(state) == tid)
                return slot;
            if (is_gone(state) && !unused) {
                unused = slot;
                before = state;
            }
            if (!state)
                break;
        }
        if (!unused)
            return NULL;
        if (__atomic_compare_exchange_n(&unused->state, &before, first, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return unused;
    }
}

/* A handler may interrupt this and ask for the slot in another relay: then what is known belongs to two. */
GENERAL_ONLY static struct hr_slot *own_slot(struct hr_relay *relay) {
    if (known.id == relay->id && known.slot >= relay->slots && known.slot < relay->slots + HR_SLOTS)
        return known.slot;
    uint32_t tid = (uint32_t)system_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    struct hr_slot *slot = hr_relay_find(relay, tid, hr_slot_pack(tid, hr_relay_side(relay), HR_NONE, 0));
    known.tid = tid;
    known.slot = slot;
    known.hit = known.own = 0;
    known.id = relay->id;
    return slot;
}

GENERAL_ONLY int hr_relay_has_range(const struct hr_ranges *ranges, uintptr_t address) {
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (address < ranges->items[middle].start)
            high = middle;
        else if (address > ranges->items[middle].end)
            low = middle + 1;
        else
            return 1;
    }
    return 0;
}

GENERAL_ONLY static long read_own(uintptr_t address, uint64_t *words, uintptr_t len) {
    struct iovec to = {words, len}, from = {(void *)address, len};
    return system_call(SYS_process_vm_readv, hr_relay_pid, (long)&to, 1, (long)&from, 1, 0);
}

/* The end of the stack that the kernel or the thread library gave to this thread. A thread of the library has its
 * control block at the top of it. */
GENERAL_ONLY static uintptr_t top_of_stack(const struct hr_relay *relay) {
    if (known.tid == (uint32_t)hr_relay_pid && !hr_is_main_forked)
        return relay->main_top;
    return hr_relay_control_block();
}

/* Asks for one byte of each page that is not known yet, from the frame up. */
GENERAL_ONLY static int is_own(const struct hr_relay *relay, uintptr_t stack) {
    uint8_t bytes[PAGES];
    struct iovec to = {bytes, 0}, from[PAGES];
    uintptr_t top = top_of_stack(relay), low = hr_page_down(stack), at = low;
    uintptr_t end = known.own ? known.own : hr_page_up(top);
    if (stack >= top)
        return 0;
    while (at < end) {
        for (to.iov_len = 0; to.iov_len < PAGES && at < end; at += HR_PAGE)
            from[to.iov_len++] = (struct iovec){(void *)at, 1};
        if (system_call(SYS_process_vm_readv, hr_relay_pid, (long)&to, 1, (long)from, (long)to.iov_len, 0) !=
            (long)to.iov_len)
            return 0;
    }
    if (low < end)
        known.own = low;
    return 1;
}

/* Read through the kernel: what lies between here and the top is the thread's own stack only if it can be read without
 * a hole; an alternate signal stack or a coroutine has one before it comes to the top. */
GENERAL_ONLY static enum scan scan_stack(const struct hr_relay *relay, enum hr_side side, uintptr_t stack,
                                         uintptr_t *where) {
    const struct hr_ranges *ranges = &relay->code[side];
    uint64_t words[CHUNK / 8];
    uintptr_t top = top_of_stack(relay);
    stack &= ~(uintptr_t)7;
    if (stack >= top)
        return NOT_OWN;
    while (stack < top) {
        uintptr_t len = top - stack < CHUNK ? (top - stack) & ~(uintptr_t)7 : CHUNK;
        if (!len)
            break;
        if (read_own(stack, words, len) != (long)len)
            return NOT_OWN;
        for (uintptr_t i = 0; i < len / 8; i++) {
            if (hr_relay_has_range(ranges, words[i])) {
                known.hit = stack + 8 * i;
                *where = words[i];
                return HIT;
            }
        }
        stack += len;
    }
    return CLEAN;
}

/* Where the last scan found something it is mostly still to be found: in frames that are live as long as they are above
 * the present one. Both are in memory of this thread's own stack, or it might have been unmapped since. */
GENERAL_ONLY static int still_hits(const struct hr_relay *relay, enum hr_side side, uintptr_t stack, uintptr_t *where) {
    if (!known.hit || known.hit < stack || known.hit >= top_of_stack(relay) || !is_own(relay, stack))
        return 0;
    *where = *(volatile uintptr_t *)known.hit;
    return hr_relay_has_range(&relay->code[side], *where);
}

/* Code of the side on a stack that is not the thread's own says nothing of the next moment: the thread may leave that
 * stack for its own with the call still open on it. */
GENERAL_ONLY static enum scan look_at_stack(const struct hr_relay *relay, enum hr_side side, uintptr_t stack,
                                            uintptr_t *where) {
    if (still_hits(relay, side, stack, where))
        return HIT;
    known.hit = 0;
    enum scan found = scan_stack(relay, side, stack, where);
    if (found != HIT || is_own(relay, stack))
        return found;
    known.hit = 0;
    *where = 0;
    return NOT_OWN;
}

/* 0: the epoch is over, look again. */
GENERAL_ONLY static int go_over(struct hr_relay *relay, struct hr_slot *slot, uint32_t epoch, uintptr_t stack) {
    enum hr_side goal = hr_goal_of(epoch);
    uint32_t tid = known.tid;
    between = stack;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_exchange_n(&slot->state, hr_slot_pack(tid, HR_BETWEEN, HR_NONE, 0), __ATOMIC_SEQ_CST);
    int is_same = __atomic_load_n(&relay->epoch, __ATOMIC_SEQ_CST) == epoch;
    if (is_same)
        *(volatile uint32_t *)&word = goal == HR_TO ? relay->id : 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_exchange_n(&slot->state, hr_slot_pack(tid, hr_relay_side(relay), HR_NONE, 0), __ATOMIC_SEQ_CST);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    between = 0;
    return is_same;
}

/* The word is read again after the store: a handler in between may have gone over. */
GENERAL_ONLY static void say_stayed(struct hr_relay *relay, struct hr_slot *slot, uint32_t epoch, uintptr_t where) {
    enum hr_side side;
    do {
        side = hr_relay_side(relay);
        uint64_t state = hr_slot_pack(known.tid, side, HR_STAYED, epoch);
        __atomic_store_n(&slot->where, where, __ATOMIC_RELAXED);
        if (__atomic_load_n(&slot->state, __ATOMIC_SEQ_CST) != state)
            __atomic_exchange_n(&slot->state, state, __ATOMIC_SEQ_CST);
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
    } while (hr_relay_side(relay) != side);
}

/* mark: what the seal is to say from now on, or OPEN. 0: it is sealed, this thread may not stay. */
GENERAL_ONLY static int may_stay(struct hr_relay *relay, uint32_t epoch, enum hr_seal mark) {
    for (;;) {
        uint64_t seal = __atomic_load_n(&relay->seal, __ATOMIC_SEQ_CST);
        if (seal == hr_seal_pack(epoch, HR_SEALED))
            return 0;
        if (mark)
            __atomic_store_n(&relay->marker, known.tid, __ATOMIC_RELAXED);
        int must_change = seal == hr_seal_pack(epoch, HR_SEALING) || (mark && seal == hr_seal_pack(epoch, HR_OPEN));
        if (!must_change || __atomic_compare_exchange_n(&relay->seal, &seal, hr_seal_pack(epoch, mark), 0,
                                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return 1;
    }
}

GENERAL_ONLY static int is_in_request(const struct hr_relay *relay) {
    return relay->is_per_request && own_request && __atomic_load_n(&own_request->depth, __ATOMIC_SEQ_CST) > 0;
}

/* Every slot is taken: this thread stays and is marked, or, if all is sealed, goes over unseen, and there is no way
 * back that could be proven any more. */
GENERAL_ONLY static int decide_crowded(struct hr_relay *relay, uint32_t epoch) {
    if (may_stay(relay, epoch, HR_CROWDED))
        return 1;
    __atomic_store_n(&relay->has_lost, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&relay->epoch, __ATOMIC_SEQ_CST) != epoch)
        return 0;
    word = hr_goal_of(epoch) == HR_TO ? relay->id : 0;
    return 1;
}

/* Once a thread has stayed on a foreign stack it stays for the whole epoch, wherever it calls from: what is open there
 * is of its side. 0: the epoch is over, look again. */
GENERAL_ONLY static int decide(struct hr_relay *relay, uint32_t epoch, enum hr_side side, uintptr_t stack) {
    struct hr_slot *slot = own_slot(relay);
    uintptr_t where = 0;
    if (!slot)
        return decide_crowded(relay, epoch);
    uint64_t state = __atomic_load_n(&slot->state, __ATOMIC_SEQ_CST);
    if (known.foreign != epoch) {
        if (hr_slot_verdict(state, epoch) == HR_SETTLED && hr_slot_side(state) == side)
            return go_over(relay, slot, epoch, stack);
        enum scan found = HIT;
        if (!is_in_request(relay))
            found = look_at_stack(relay, side, stack, &where);
        else if (!is_own(relay, stack))
            found = NOT_OWN;
        if (found == CLEAN)
            return go_over(relay, slot, epoch, stack);
        if (found == NOT_OWN)
            known.foreign = epoch;
    }
    say_stayed(relay, slot, epoch, where);
    if (may_stay(relay, epoch, known.foreign == epoch ? HR_FOREIGN : HR_OPEN))
        return __atomic_load_n(&relay->epoch, __ATOMIC_SEQ_CST) == epoch;
    return go_over(relay, slot, epoch, stack);
}

GENERAL_ONLY enum hr_side hr_relay_decide(struct hr_relay *relay, uintptr_t stack) {
    for (;;) {
        enum hr_side side = hr_relay_side(relay);
        uint32_t epoch = __atomic_load_n(&relay->epoch, __ATOMIC_SEQ_CST);
        if (side == hr_goal_of(epoch) || (between && stack < between) || decide(relay, epoch, side, stack))
            return hr_relay_side(relay);
    }
}

/* Outside of a call: a request begins or ends. The count keeps the relay from being unmapped meanwhile. */
GENERAL_ONLY void hr_relay_visit(uintptr_t stack) {
    if (!__atomic_load_n(&announced, __ATOMIC_SEQ_CST))
        return;
    __atomic_add_fetch(&visitors, 1, __ATOMIC_SEQ_CST);
    struct hr_relay *relay = __atomic_load_n(&announced, __ATOMIC_SEQ_CST);
    if (relay)
        (void)hr_relay_decide(relay, stack);
    __atomic_sub_fetch(&visitors, 1, __ATOMIC_SEQ_CST);
}

void hr_relay_announce(struct hr_relay *relay) {
    __atomic_store_n(&announced, relay, __ATOMIC_SEQ_CST);
}

int hr_relay_has_visitors(void) {
    return __atomic_load_n(&visitors, __ATOMIC_SEQ_CST) != 0;
}

void hr_relay_set_request(struct hr_request *request) {
    own_request = request;
}

struct hr_request *hr_relay_request(void) {
    return own_request;
}

void hr_relay_after_fork(void) {
    known.id = 0;
    known.slot = NULL;
    visitors = 0;
}

/* On entry: the relay, the address in the stub, the caller's return address. All general registers are put back; the
 * flags tell the stub where to go. Popping and lea leave them alone.
 *
 * The frame is that of a function which the stub called: the CFA is above the address in the stub. */
__asm__(".text\n"
        ".p2align 4\n"
        ".globl hr_relay_thunk\n"
        ".hidden hr_relay_thunk\n"
        ".type hr_relay_thunk, @function\n"
        "hr_relay_thunk:\n"
        "    .cfi_startproc\n"
        "    .cfi_def_cfa_offset 16\n"
        "    push %rax\n    .cfi_adjust_cfa_offset 8\n"
        "    push %rcx\n    .cfi_adjust_cfa_offset 8\n"
        "    push %rdx\n    .cfi_adjust_cfa_offset 8\n"
        "    push %rsi\n    .cfi_adjust_cfa_offset 8\n"
        "    push %rdi\n    .cfi_adjust_cfa_offset 8\n"
        "    push %r8\n     .cfi_adjust_cfa_offset 8\n"
        "    push %r9\n     .cfi_adjust_cfa_offset 8\n"
        "    push %r10\n    .cfi_adjust_cfa_offset 8\n"
        "    push %r11\n    .cfi_adjust_cfa_offset 8\n"
        "    push %rbp\n    .cfi_adjust_cfa_offset 8\n    .cfi_rel_offset %rbp, 0\n"
        "    mov %rsp, %rbp\n    .cfi_def_cfa_register %rbp\n"
        "    cld\n"
        "    mov 80(%rbp), %rdi\n" /* the relay */
        "    lea 96(%rbp), %rsi\n" /* where the caller's return address stands */
        "    and $-16, %rsp\n"
        "    call hr_relay_decide\n"
        "    mov %rbp, %rsp\n    .cfi_def_cfa_register %rsp\n"
        "    test %eax, %eax\n"
        "    pop %rbp\n     .cfi_adjust_cfa_offset -8\n    .cfi_restore %rbp\n"
        "    pop %r11\n     .cfi_adjust_cfa_offset -8\n"
        "    pop %r10\n     .cfi_adjust_cfa_offset -8\n"
        "    pop %r9\n      .cfi_adjust_cfa_offset -8\n"
        "    pop %r8\n      .cfi_adjust_cfa_offset -8\n"
        "    pop %rdi\n     .cfi_adjust_cfa_offset -8\n"
        "    pop %rsi\n     .cfi_adjust_cfa_offset -8\n"
        "    pop %rdx\n     .cfi_adjust_cfa_offset -8\n"
        "    pop %rcx\n     .cfi_adjust_cfa_offset -8\n"
        "    pop %rax\n     .cfi_adjust_cfa_offset -8\n"
        "    lea 8(%rsp), %rsp\n    .cfi_adjust_cfa_offset -8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        "    .size hr_relay_thunk, . - hr_relay_thunk\n");
