/* transition.c: the driver. It opens a transition, lets threads go over, proves that the others are outside, turns the
 * goal round, and ends it.
 *
 *     PREPARED --begin--> BEGINNING --> BEGUN --finish--> FINISHING --> FINISHED --close--> CLOSED --discard-->
 * unmapped
 *        \                   |  ^--------- refused             \___refused__^                  ^
 *         \------------------+-----------------------------------------------------------------/
 *
 *     epoch   odd: the goal is FROM, even: TO       a flip is the next number, so no verdict outlives its epoch
 *
 * A thread is settled when it is on the goal side, or was seen outside of the other side's code and has not passed a
 * stub since. The second takes a handshake, because a scan of its own may find dead words and then it stays:
 *
 *     driver    slot = OFFERED | still picture: outside? | slot: OFFERED -> SETTLED      (else: not settled)
 *     thread                       in a stub: slot = STAYED, or BETWEEN                  (SETTLED: go over unseen)
 *
 * Threads that are born after the epoch began have none of the left code on their stack; if a dead word makes one of
 * them stay nevertheless, it says so in its slot and is waited for. The end is sealed in two steps, SEALING and SEALED,
 * with a last look at all slots in between; see relay.c for the other half.
 *
 * Context: a thread of the host, without the GIL. The lock of the transition is held for each look and never for a
 * commit or an allocation. Fork waits for it, in a hurry: for as long as one thread is looked at.
 */
#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum state { PREPARED, BEGINNING, BEGUN, FINISHING, FINISHED, CLOSED };

enum { TEXT_ROOM = 1024 };

static const uint64_t second = UINT64_C(1000000000);
static const uint64_t shortest_pause = 200000, longest_pause = 20000000;

struct hr_transition {
    enum state state;
    struct hr_relay *relay;
    struct hr_arena *arena; /* NULL: no switches */
    struct hr_switch *switches;
    struct hr_move *moves;
    size_t count;
    uint64_t began; /* the epoch; in the ticks that starting times of tasks are told in */
    size_t next;    /* where the pass goes on that was cut short */
};

static struct hr_transition *opened; /* from open to close */
static struct hr_relay *leftovers;   /* somebody was looking when they were discarded */
static uint32_t last_id, last_epoch;
static uint32_t hurries; /* how many want the lock, or whoever waits to come back */
static int was_main;
static struct hr_range text_ranges[TEXT_ROOM]; /* of a look, under the lock */

/* Ranges -------------------------------------------------------------------------------------------------------- */

static int compare_start(const void *a, const void *b) {
    const struct hr_range *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

static int compare_address(const void *a, const void *b) {
    const uintptr_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The address of an entry on a stack is a pointer of somebody who calls through pointers, and those are everywhere. It
 * is no return address, unless the code in front of it ends there; and a thread that stands there is about to run a
 * stub. */
static void leave_out_entries(struct hr_ranges *ranges, const uintptr_t *entries, size_t count) {
    for (size_t i = ranges->count; i > 0; i--) {
        struct hr_range *range = &ranges->items[i - 1];
        int is_behind_other = i > 1 && ranges->items[i - 2].end >= range->start;
        if (!is_behind_other && range->end - range->start >= 8 &&
            bsearch(&range->start, entries, count, sizeof *entries, compare_address))
            range->start += 8;
    }
}

static void merge(struct hr_ranges *ranges) {
    size_t count = 0;
    for (size_t i = 0; i < ranges->count; i++) {
        struct hr_range *last = count ? &ranges->items[count - 1] : NULL;
        if (last && ranges->items[i].start <= last->end) {
            if (ranges->items[i].end > last->end)
                last->end = ranges->items[i].end;
        } else {
            ranges->items[count++] = ranges->items[i];
        }
    }
    ranges->count = count;
}

static void fill_ranges(struct hr_ranges *ranges, const struct hr_extent *extents, size_t count,
                        const uintptr_t *entries, size_t entry_count, size_t room) {
    for (size_t i = 0; i < count; i++)
        if (extents[i].start < extents[i].end)
            ranges->items[ranges->count++] = (struct hr_range){extents[i].start, extents[i].end};
    size_t left = room - ranges->count, arenas = hr_arenas_copy(ranges->items + ranges->count, left);
    ranges->count += arenas < left ? arenas : left; /* no arena is added while this one is open */
    qsort(ranges->items, ranges->count, sizeof *ranges->items, compare_start);
    leave_out_entries(ranges, entries, entry_count);
    merge(ranges);
}

/* Opening -------------------------------------------------------------------------------------------------------- */

static enum hr_status refuse_order(const struct hr_transition *transition, struct hr_error *error) {
    hr_refuse(error, HR_ORDER);
    error->value = (uint64_t)transition->state;
    return HR_ORDER;
}

static enum hr_status probe_scan(struct hr_error *error) {
    volatile uint64_t here = 0x5ca9;
    uint64_t seen = 0;
    if (hr_memory_read((uintptr_t)&here, &seen, sizeof seen) != sizeof seen || seen != here)
        return hr_refuse_call(error, HR_NO_SCAN, "process_vm_readv", errno);
    struct hr_tasks tasks;
    int errnum = hr_tasks_open(&tasks);
    if (errnum)
        return hr_refuse_call(error, HR_NO_SCAN, "open /proc/self/task", errnum);
    uint32_t first = hr_tasks_next(&tasks);
    hr_tasks_close(&tasks);
    if (!first)
        return hr_refuse_call(error, HR_NO_SCAN, "getdents64 /proc/self/task", tasks.errnum);
    struct hr_task_stat stat;
    if (hr_task_stat((uint32_t)syscall(SYS_gettid), &stat)) /* /proc is that of another PID namespace */
        return hr_refuse_call(error, HR_NO_SCAN, "open /proc/self/task/TID/stat", errno);
    return HR_OK;
}

/* Can all of it be read, without a hole? */
static int is_one_piece(uintptr_t start, uintptr_t end) {
    uint64_t word;
    for (uintptr_t at = start & ~(uintptr_t)7; at < end; at = hr_page_down(at) + HR_PAGE)
        if (hr_memory_read(at, &word, sizeof word) != sizeof word)
            return 0;
    return end > start;
}

/* Where the kernel's own stack ends, and whether the main thread runs on it. If the core was loaded after a fork by
 * some other thread it does not: then its control block stands at the top of where it runs. */
static enum hr_status find_main_stack(uintptr_t *top, struct hr_error *error) {
    struct hr_maps maps;
    struct hr_mapping mapping, stack = {0};
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    enum hr_status status = hr_maps_open(&maps, error);
    if (status)
        return status;
    while (hr_maps_next(&maps, &mapping))
        if (mapping.is_stack)
            stack = mapping;
    hr_maps_close(&maps);
    if (maps.status)
        return maps.status;
    *top = stack.end;
    if (syscall(SYS_gettid) == hr_relay_pid) {
        int is_on_stack = here >= stack.start && here < stack.end;
        if (is_on_stack || is_one_piece(here, hr_relay_control_block()))
            hr_is_main_forked = !is_on_stack;
    }
    return HR_OK;
}

static enum hr_status make_relay(struct hr_transition *transition, size_t range_room, struct hr_error *error) {
    size_t ranges = (sizeof(struct hr_relay) + 63) & ~(size_t)63;
    size_t slots = (ranges + 2 * range_room * sizeof(struct hr_range) + 63) & ~(size_t)63;
    size_t len = hr_page_up(slots + HR_SLOTS * sizeof(struct hr_slot));
    uint8_t *memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return hr_refuse_call(error, HR_NO_MEMORY, "mmap", errno);
    struct hr_relay *relay = (struct hr_relay *)memory;
    relay->code[HR_FROM].items = (struct hr_range *)(memory + ranges);
    relay->code[HR_TO].items = relay->code[HR_FROM].items + range_room;
    relay->slots = (struct hr_slot *)(memory + slots);
    transition->relay = relay;
    return HR_OK;
}

static uint32_t next_epoch(enum hr_side goal) {
    last_epoch++;
    if (hr_goal_of(last_epoch) != goal)
        last_epoch++;
    return last_epoch;
}

static enum hr_status open_arena(struct hr_transition *transition, struct hr_base *base, struct hr_error *error) {
    struct hr_bodies *bodies = calloc(transition->count, sizeof *bodies);
    if (!bodies)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    for (size_t i = 0; i < transition->count; i++) {
        const struct hr_switch *from = &transition->switches[i];
        bodies[i].side[HR_FROM] = from->before ? from->before : from->site->entry + 8;
        bodies[i].side[HR_TO] = from->after ? from->after : from->site->entry + 8;
    }
    enum hr_status status =
        hr_arena_open(base, bodies, transition->count, transition->relay, &transition->arena, error);
    free(bodies);
    return status;
}

static enum hr_status prepare(struct hr_transition *transition, struct hr_base *base, const struct hr_sides *sides,
                              struct hr_error *error) {
    size_t most = sides->before_count > sides->after_count ? sides->before_count : sides->after_count;
    size_t room = most + hr_arenas_copy(NULL, 0) + 1;
    uintptr_t main_top = 0;
    enum hr_status status = probe_scan(error);
    if (!status)
        status = find_main_stack(&main_top, error);
    if (!status)
        status = make_relay(transition, room, error);
    if (status)
        return status;
    struct hr_relay *relay = transition->relay;
    relay->id = ++last_id;
    relay->epoch = next_epoch(HR_FROM);
    relay->seal = hr_seal_pack(relay->epoch, HR_OPEN);
    relay->main_top = main_top;
    if (transition->count)
        status = open_arena(transition, base, error);
    if (status)
        return status;
    uintptr_t *entries = calloc(transition->count + 1, sizeof *entries);
    if (!entries)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", errno);
    for (size_t i = 0; i < transition->count; i++)
        entries[i] = transition->switches[i].site->entry;
    qsort(entries, transition->count, sizeof *entries, compare_address);
    fill_ranges(&relay->code[HR_FROM], sides->before, sides->before_count, entries, transition->count, room);
    fill_ranges(&relay->code[HR_TO], sides->after, sides->after_count, entries, transition->count, room);
    free(entries);
    return HR_OK;
}

/* A relay that somebody may be looking at stays mapped until later. */
static void discard_relay(struct hr_relay *relay) {
    hr_transition_lock();
    relay->next = leftovers;
    leftovers = relay;
    struct hr_relay *gone = NULL;
    if (!hr_relay_has_visitors()) {
        gone = leftovers;
        leftovers = NULL;
    }
    hr_transition_unlock();
    while (gone) {
        struct hr_relay *next = gone->next;
        munmap(gone, hr_page_up((uintptr_t)(gone->slots + HR_SLOTS) - (uintptr_t)gone));
        gone = next;
    }
}

static void free_steps(struct hr_transition *transition) {
    free(transition->switches);
    free(transition->moves);
    transition->switches = NULL;
    transition->moves = NULL;
}

static void discard(struct hr_transition *transition) {
    if (transition->arena)
        hr_arena_close(transition->arena);
    if (transition->relay)
        discard_relay(transition->relay);
    free_steps(transition);
    free(transition);
}

static struct hr_transition *allocate(const struct hr_switch *switches, size_t count) {
    struct hr_transition *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->count = count;
    made->switches = calloc(count + 1, sizeof *made->switches);
    made->moves = calloc(count + 1, sizeof *made->moves);
    if (!made->switches || !made->moves) {
        discard(made);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        made->switches[i] = switches[i];
    return made;
}

static int take_turn(struct hr_transition *transition) {
    hr_transition_lock();
    int is_free = !opened;
    if (is_free)
        opened = transition;
    hr_transition_unlock();
    return is_free;
}

static void end_turn(const struct hr_transition *transition) {
    hr_transition_lock();
    if (opened == transition)
        opened = NULL;
    hr_transition_unlock();
}

enum hr_status hr_transition_open(struct hr_base *base, const struct hr_switch *switches, size_t count,
                                  const struct hr_sides *sides, int is_per_request, struct hr_transition **transition,
                                  struct hr_error *error) {
    struct hr_transition *made = allocate(switches, count);
    if (!made)
        return hr_refuse_call(error, HR_NO_MEMORY, "calloc", ENOMEM);
    enum hr_status status = take_turn(made) ? HR_OK : hr_refuse(error, HR_BUSY);
    if (!status)
        status = prepare(made, base, sides, error);
    if (status) {
        end_turn(made);
        discard(made);
        return status;
    }
    made->relay->is_per_request = is_per_request != 0;
    *transition = made;
    return HR_OK;
}

void hr_transition_stubs(const struct hr_transition *transition, struct hr_extent *stubs) {
    const struct hr_arena *arena = transition->arena;
    *stubs = (struct hr_extent){0};
    if (arena)
        *stubs = (struct hr_extent){arena->place.address, arena->text_end};
}

/* Slots ---------------------------------------------------------------------------------------------------------- */

static uint64_t load(const struct hr_slot *slot) {
    return __atomic_load_n(&slot->state, __ATOMIC_SEQ_CST);
}

static int replace(struct hr_slot *slot, uint64_t before, uint64_t after) {
    return __atomic_compare_exchange_n(&slot->state, &before, after, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static int is_settled(const struct hr_relay *relay, uint64_t state) {
    enum hr_side side = hr_slot_side(state);
    if (!state || side == HR_GONE || side == hr_goal_of(relay->epoch))
        return 1;
    return side != HR_BETWEEN && hr_slot_verdict(state, relay->epoch) == HR_SETTLED;
}

static uint64_t ticks_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_BOOTTIME, &time);
    uint64_t per_second = (uint64_t)sysconf(_SC_CLK_TCK);
    return (uint64_t)time.tv_sec * per_second + (uint64_t)time.tv_nsec / (second / per_second);
}

static int reseal(struct hr_relay *relay, enum hr_seal before, enum hr_seal after) {
    uint64_t expected = hr_seal_pack(relay->epoch, before);
    return __atomic_compare_exchange_n(&relay->seal, &expected, hr_seal_pack(relay->epoch, after), 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* Gives the slots of ended threads back. One whose number is used again is another thread, and on FROM. */
static void bury(struct hr_relay *relay) {
    for (size_t i = 0; i < HR_SLOTS; i++) {
        uint64_t state = load(&relay->slots[i]);
        struct hr_task_stat stat;
        if (state && hr_slot_side(state) != HR_GONE && hr_task_stat(hr_slot_tid(state), &stat) == HR_LOOK_GONE)
            (void)replace(&relay->slots[i], state, hr_slot_pack(hr_slot_tid(state), HR_GONE, HR_NONE, 0));
    }
}

static int is_known(const struct hr_relay *relay, uint32_t tid) {
    for (uint32_t i = 0; i < HR_SLOTS; i++) {
        uint64_t state = load(&relay->slots[(tid + i) % HR_SLOTS]);
        if (!state)
            return 0;
        if (hr_slot_tid(state) == tid && hr_slot_side(state) != HR_GONE)
            return 1;
    }
    return 0;
}

/* Was it there when the epoch began, and may it run code of this program? What cannot be read might. */
static int is_concerned(uint32_t tid, uint64_t began) {
    struct hr_task_stat stat;
    enum hr_look look = hr_task_stat(tid, &stat);
    if (look)
        return look != HR_LOOK_GONE;
    return !hr_task_is_foreign(&stat) && stat.started <= began;
}

/* One pass over the tasks. Returns how many it added, or could not read. The kernel ends a pass early when the task
 * that it stands at ends: a pass that shows fewer than there were when it began is none. */
static size_t list_once(struct hr_transition *transition) {
    struct hr_tasks tasks;
    struct hr_relay *relay = transition->relay;
    size_t added = 0, shown = 0;
    if (hr_tasks_open(&tasks))
        return 1;
    for (uint32_t tid = hr_tasks_next(&tasks); tid; tid = hr_tasks_next(&tasks)) {
        shown++;
        if (is_known(relay, tid) || !is_concerned(tid, transition->began))
            continue;
        added++;
        if (!hr_relay_find(relay, tid, hr_slot_pack(tid, HR_FROM, HR_NONE, 0)))
            (void)reseal(relay, HR_OPEN, HR_CROWDED);
    }
    hr_tasks_close(&tasks);
    return added + (tasks.errnum != 0) + (shown < tasks.count);
}

/* Until a whole pass has added nobody; the end is sealed only after one more of that kind. */
static void list(struct hr_transition *transition) {
    for (int i = 0; i < 64 && list_once(transition); i++)
        continue;
}

static void flip(struct hr_transition *transition, enum hr_side goal) {
    struct hr_relay *relay = transition->relay;
    uint32_t epoch = next_epoch(goal);
    __atomic_store_n(&relay->seal, hr_seal_pack(epoch, HR_OPEN), __ATOMIC_SEQ_CST);
    __atomic_store_n(&relay->epoch, epoch, __ATOMIC_SEQ_CST);
    if (transition->arena)
        __atomic_store_n(transition->arena->goal, (uint32_t)goal, __ATOMIC_SEQ_CST);
    transition->began = ticks_now();
    bury(relay);
    if (goal == HR_TO)
        list(transition);
}

/* Looking --------------------------------------------------------------------------------------------------------- */

struct finding {
    const char *reason; /* NULL: settled */
    uintptr_t where;
    uintptr_t stack; /* 0: not known */
};

static const char *reason_of(enum hr_look look) {
    switch (look) {
    case HR_LOOK_INSIDE:
        return "INSIDE";
    case HR_LOOK_FOREIGN:
        return "FOREIGN_STACK";
    case HR_LOOK_UNREADABLE:
        return "UNREADABLE";
    default:
        return "RUNNING";
    }
}

static void look_at_self(struct hr_relay *relay, struct hr_slot *slot, uintptr_t stack, struct finding *finding) {
    uint64_t state = load(slot);
    if (!stack && hr_slot_side(state) != HR_BETWEEN)
        (void)replace(slot, state, hr_slot_pack(hr_slot_tid(state), hr_slot_side(state), HR_SETTLED, relay->epoch));
    if (stack)
        (void)hr_relay_decide(relay, stack);
    state = load(slot);
    if (is_settled(relay, state))
        return;
    finding->reason = "RUNNING";
    finding->stack = stack;
    if (relay->is_per_request && hr_request_is_open(hr_slot_tid(state))) {
        finding->reason = "REQUEST";
    } else if (hr_slot_verdict(state, relay->epoch) == HR_STAYED) {
        finding->where = slot->where;
        finding->reason = slot->where ? "INSIDE" : "FOREIGN_STACK";
    }
}

/* The offer is made before the picture is taken and holds only if the thread has not touched its slot since. Requests
 * are asked for once more after it: one that began before the offer was made may have had nothing to touch. */
static void look_at_other(struct hr_relay *relay, struct hr_slot *slot, uint64_t state, struct finding *finding) {
    uint32_t tid = hr_slot_tid(state);
    enum hr_side side = hr_slot_side(state);
    enum hr_verdict verdict = hr_slot_verdict(state, relay->epoch);
    finding->reason = "RUNNING";
    if (side == HR_BETWEEN) { /* for a few instructions, unless it was cancelled there */
        struct hr_task_stat stat;
        if (hr_task_stat(tid, &stat) == HR_LOOK_GONE && replace(slot, state, hr_slot_pack(tid, HR_GONE, HR_NONE, 0)))
            finding->reason = NULL;
        return;
    }
    if (verdict == HR_STAYED && slot->where) {
        finding->reason = "INSIDE";
        finding->where = slot->where;
    }
    if (relay->is_per_request && hr_request_is_open(tid)) {
        struct hr_task_stat stat;
        finding->reason = "REQUEST";
        if (hr_task_stat(tid, &stat) == HR_LOOK_GONE && replace(slot, state, hr_slot_pack(tid, HR_GONE, HR_NONE, 0)))
            finding->reason = NULL;
        return;
    }
    uint64_t offered = hr_slot_pack(tid, side, HR_OFFERED, relay->epoch);
    if (!replace(slot, state, offered))
        return;
    uintptr_t where = 0;
    enum hr_look look = hr_task_look(tid, &relay->code[side], relay->main_top, &where);
    uint64_t after = hr_slot_pack(tid, side, verdict, relay->epoch);
    if (look == HR_LOOK_OUTSIDE && relay->is_per_request && hr_request_is_open(tid)) {
        finding->reason = "REQUEST";
        look = HR_LOOK_RUNNING;
    }
    if (look == HR_LOOK_OUTSIDE)
        after = hr_slot_pack(tid, side, HR_SETTLED, relay->epoch);
    if (look == HR_LOOK_GONE)
        after = hr_slot_pack(tid, HR_GONE, HR_NONE, 0);
    int is_same = replace(slot, offered, after);
    if (is_same && (look == HR_LOOK_OUTSIDE || look == HR_LOOK_GONE)) {
        finding->reason = NULL;
    } else if (look != HR_LOOK_OUTSIDE && look != HR_LOOK_RUNNING && look != HR_LOOK_GONE) {
        finding->reason = reason_of(look);
        finding->where = where;
    }
}

static void look_at(struct hr_relay *relay, struct hr_slot *slot, uintptr_t stack, struct finding *finding) {
    uint64_t state = load(slot);
    *finding = (struct finding){0};
    if (is_settled(relay, state))
        return;
    if (hr_slot_tid(state) == (uint32_t)syscall(SYS_gettid))
        look_at_self(relay, slot, stack, finding);
    else
        look_at_other(relay, slot, state, finding);
}

static int is_sealed(const struct hr_relay *relay) {
    return __atomic_load_n(&relay->seal, __ATOMIC_SEQ_CST) == hr_seal_pack(relay->epoch, HR_SEALED);
}

static int all_settled(const struct hr_relay *relay) {
    for (size_t i = 0; i < HR_SLOTS; i++)
        if (!is_settled(relay, load(&relay->slots[i])))
            return 0;
    return 1;
}

static int is_hurried(void) {
    return __atomic_load_n(&hurries, __ATOMIC_SEQ_CST) != 0;
}

static int try_seal(struct hr_transition *transition) {
    struct hr_relay *relay = transition->relay;
    int goal_is_to = hr_goal_of(relay->epoch) == HR_TO;
    if (!goal_is_to && __atomic_load_n(&relay->has_lost, __ATOMIC_SEQ_CST))
        return 0;
    if (!reseal(relay, HR_OPEN, HR_SEALING))
        return 0;
    if ((!goal_is_to || !list_once(transition)) && all_settled(relay) && reseal(relay, HR_SEALING, HR_SEALED))
        return 1;
    (void)reseal(relay, HR_SEALING, HR_OPEN);
    return 0;
}

static int is_crowded(const struct hr_relay *relay) {
    size_t used = 0;
    for (size_t i = 0; i < HR_SLOTS; i++) {
        uint64_t state = load(&relay->slots[i]);
        used += state && hr_slot_side(state) != HR_GONE;
    }
    return used > HR_SLOTS / 2;
}

/* One pass over all that are not settled; stack: of this thread, or 0: there is nothing of the host's on it. Who is in
 * a hurry waits for one thread to be looked at: the next call goes on with the one behind it. Whether all are settled
 * is asked of the slots, so no pass must be whole. */
static int settle(struct hr_transition *transition, uintptr_t stack) {
    struct hr_relay *relay = transition->relay;
    if (is_sealed(relay))
        return 1;
    for (size_t i = 0; i < HR_SLOTS; i++) {
        struct hr_slot *slot = &relay->slots[transition->next++ % HR_SLOTS];
        struct finding finding;
        if (is_settled(relay, load(slot)))
            continue;
        look_at(relay, slot, stack, &finding);
        if (is_hurried())
            return 0;
    }
    if (is_crowded(relay))
        bury(relay);
    return all_settled(relay) && try_seal(transition);
}

static struct hr_ranges read_text(void) {
    struct hr_ranges text = {.items = text_ranges};
    struct hr_error ignored;
    struct hr_maps maps;
    struct hr_mapping mapping;
    if (hr_maps_open(&maps, &ignored))
        return text;
    while (text.count < TEXT_ROOM && hr_maps_next(&maps, &mapping))
        if (mapping.prot & HR_MAP_X)
            text.items[text.count++] = (struct hr_range){mapping.start, mapping.end - 1};
    hr_maps_close(&maps);
    return text;
}

static void describe(uint32_t tid, const struct finding *finding, const struct hr_ranges *text,
                     struct hr_straggler *straggler) {
    struct hr_still still;
    uintptr_t stack = finding->stack;
    *straggler = (struct hr_straggler){.tid = tid, .reason = finding->reason, .where = finding->where};
    if (!stack && !hr_task_still(tid, &still)) {
        stack = still.stack;
        straggler->frames[straggler->frame_count++] = still.pc;
    }
    if (!stack)
        return;
    size_t room = sizeof straggler->frames / sizeof *straggler->frames - straggler->frame_count;
    straggler->frame_count += (uint32_t)hr_stack_frames(stack, text, straggler->frames + straggler->frame_count, room);
}

/* Nobody is left to wait for, and yet it cannot be sealed. */
static const char *mark_of(const struct hr_relay *relay) {
    uint64_t seal = __atomic_load_n(&relay->seal, __ATOMIC_SEQ_CST);
    if (seal == hr_seal_pack(relay->epoch, HR_FOREIGN))
        return "FOREIGN_STACK";
    if (seal == hr_seal_pack(relay->epoch, HR_CROWDED) || relay->has_lost)
        return "CROWDED";
    return NULL;
}

static void look(struct hr_transition *transition, uintptr_t stack, struct hr_progress *progress,
                 struct hr_straggler *stragglers, size_t room, size_t *count) {
    struct hr_relay *relay = transition->relay;
    struct hr_ranges text = read_text();
    uint32_t left = 0;
    *progress = (struct hr_progress){0};
    *count = 0;
    for (size_t i = 0; i < HR_SLOTS; i++) {
        struct finding finding;
        struct hr_slot *slot = &relay->slots[i];
        look_at(relay, slot, stack, &finding);
        progress->threads += load(slot) && hr_slot_side(load(slot)) != HR_GONE;
        left += finding.reason != NULL;
        if (finding.reason && *count < room)
            describe(hr_slot_tid(load(slot)), &finding, &text, &stragglers[(*count)++]);
    }
    progress->is_settled = is_sealed(relay) || (!left && try_seal(transition));
    struct finding mark = {.reason = progress->is_settled || left ? NULL : mark_of(relay)};
    if (mark.reason && *count < room) {
        describe(relay->marker, &mark, &text, &stragglers[(*count)++]);
        left += progress->threads > 0;
    }
    progress->settled = progress->is_settled ? progress->threads : progress->threads - left;
}

/* Steps ----------------------------------------------------------------------------------------------------------- */

/* From one state to the next; refused in any other. */
static enum hr_status step(struct hr_transition *transition, enum state from, enum state to, struct hr_error *error) {
    hr_transition_lock();
    enum hr_status status = transition->state == from ? HR_OK : refuse_order(transition, error);
    if (!status)
        transition->state = to;
    hr_transition_unlock();
    return status;
}

static enum hr_status commit(struct hr_transition *transition, int allow_unsynchronised,
                             struct hr_commit_report *report, struct hr_error *error) {
    *report = (struct hr_commit_report){.is_synchronised = 1};
    if (!transition->count)
        return HR_OK;
    return hr_commit(transition->moves, transition->count, allow_unsynchronised, report, error);
}

enum hr_status hr_transition_begin(struct hr_transition *transition, int allow_unsynchronised,
                                   struct hr_commit_report *report, struct hr_error *error) {
    enum hr_status status = step(transition, PREPARED, BEGINNING, error);
    if (status)
        return status;
    for (size_t i = 0; i < transition->count; i++)
        transition->moves[i] =
            (struct hr_move){transition->switches[i].site, transition->arena->place.address + i * HR_STUB_LEN};
    status = commit(transition, allow_unsynchronised, report, error);
    hr_transition_lock();
    transition->state = status ? PREPARED : BEGUN;
    if (!status) {
        hr_relay_announce(transition->relay);
        flip(transition, HR_TO);
    }
    hr_transition_unlock();
    return status;
}

enum hr_status hr_transition_reverse(struct hr_transition *transition, struct hr_error *error) {
    hr_transition_lock();
    enum hr_status status = transition->state == BEGUN ? HR_OK : refuse_order(transition, error);
    if (!status)
        flip(transition, hr_goal_of(transition->relay->epoch) == HR_TO ? HR_FROM : HR_TO);
    hr_transition_unlock();
    return status;
}

enum hr_status hr_transition_finish(struct hr_transition *transition, int allow_unsynchronised,
                                    struct hr_commit_report *report, struct hr_error *error) {
    enum hr_status status = step(transition, BEGUN, FINISHING, error);
    if (status)
        return status;
    enum hr_side goal = hr_goal_of(transition->relay->epoch);
    for (size_t i = 0; i < transition->count; i++) {
        const struct hr_switch *from = &transition->switches[i];
        transition->moves[i] = (struct hr_move){from->site, goal == HR_TO ? from->after : from->before};
    }
    status = commit(transition, allow_unsynchronised, report, error);
    int is_over = !status || status == HR_POISONED; /* there is nothing to be tried again: the stubs go on leading */
    hr_transition_lock();
    transition->state = is_over ? FINISHED : BEGUN;
    if (is_over)
        hr_relay_announce(NULL);
    hr_transition_unlock();
    return status;
}

/* The memory of the slots goes back to the kernel; the stubs and what they read stay, since a thread may be in one. */
enum hr_status hr_transition_close(struct hr_transition *transition, struct hr_error *error) {
    enum hr_status status = HR_OK;
    hr_transition_lock();
    if (transition->state != PREPARED && transition->state != FINISHED)
        status = refuse_order(transition, error);
    if (!status) {
        transition->state = CLOSED;
        uintptr_t slots = hr_page_up((uintptr_t)transition->relay->slots);
        uintptr_t end = hr_page_down((uintptr_t)(transition->relay->slots + HR_SLOTS));
        (void)madvise((void *)slots, end - slots, MADV_DONTNEED);
        if (opened == transition)
            opened = NULL;
    }
    hr_transition_unlock();
    if (!status)
        free_steps(transition);
    return status;
}

enum hr_status hr_transition_discard(struct hr_transition *transition, struct hr_error *error) {
    enum hr_status status = HR_OK;
    hr_transition_lock();
    if (transition->state != PREPARED && transition->state != CLOSED)
        status = refuse_order(transition, error);
    if (!status && opened == transition)
        opened = NULL;
    hr_transition_unlock();
    if (!status)
        discard(transition);
    return status;
}

/* Cut short by a signal it looks sooner, and by somebody in a hurry it comes back. */
static void pause_for(uint64_t nanoseconds) {
    struct timespec time = {(time_t)(nanoseconds / second), (long)(nanoseconds % second)};
    (void)syscall(SYS_futex, &hurries, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0);
}

void hr_transition_hurry(void) {
    __atomic_add_fetch(&hurries, 1, __ATOMIC_SEQ_CST);
    (void)syscall(SYS_futex, &hurries, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void hr_transition_relax(void) {
    uint32_t count = __atomic_load_n(&hurries, __ATOMIC_SEQ_CST);
    while (count && !__atomic_compare_exchange_n(&hurries, &count, count - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        continue; /* 0: a fork has begun anew */
}

enum hr_status hr_transition_wait(struct hr_transition *transition, uint64_t nanoseconds, int is_outside,
                                  int *is_settled_now, struct hr_error *error) {
    uintptr_t stack = is_outside ? 0 : (uintptr_t)__builtin_frame_address(0) + 8;
    uint64_t start = hr_now(), pause = shortest_pause;
    *is_settled_now = 0;
    for (;;) {
        hr_transition_lock();
        enum hr_status status = transition->state == BEGUN ? HR_OK : refuse_order(transition, error);
        if (!status)
            *is_settled_now = settle(transition, stack);
        hr_transition_unlock();
        uint64_t passed = hr_now() - start;
        if (status || *is_settled_now || passed >= nanoseconds || is_hurried())
            return status;
        pause_for(pause < nanoseconds - passed ? pause : nanoseconds - passed);
        pause = 2 * pause < longest_pause ? 2 * pause : longest_pause;
    }
}

enum hr_status hr_transition_look(struct hr_transition *transition, struct hr_progress *progress,
                                  struct hr_straggler *stragglers, size_t room, size_t *count, struct hr_error *error) {
    uintptr_t stack = (uintptr_t)__builtin_frame_address(0) + 8;
    hr_transition_lock();
    enum hr_status status = transition->state == BEGUN ? HR_OK : refuse_order(transition, error);
    if (!status)
        look(transition, stack, progress, stragglers, room, count);
    hr_transition_unlock();
    return status;
}

/* Fork ------------------------------------------------------------------------------------------------------------ */

void hr_transition_before_fork(void) {
    was_main = syscall(SYS_gettid) == getpid() && !hr_is_main_forked;
}

/* The slots are of threads that are not here. The seal's mark stays when it tells of a coroutine, which was copied. A
 * commit of the parent is whole in this memory or not there at all, but who made it is not here to say so: the goal
 * goes back to what the entries did before, or stays what it was. */
static void renew(struct hr_transition *transition) {
    struct hr_relay *relay = transition->relay;
    uintptr_t slots = (uintptr_t)relay->slots, end = (uintptr_t)(relay->slots + HR_SLOTS);
    memset((void *)slots, 0, hr_page_up(slots) - slots);
    memset((void *)hr_page_down(end), 0, end - hr_page_down(end));
    (void)madvise((void *)hr_page_up(slots), hr_page_down(end) - hr_page_up(slots), MADV_DONTNEED);
    relay->has_lost = 0;
    (void)reseal(relay, HR_SEALING, HR_OPEN);
    (void)reseal(relay, HR_CROWDED, HR_OPEN);
    if (transition->state == BEGINNING || transition->state == FINISHING)
        transition->state = BEGUN;
    hr_relay_announce(relay);
    uint32_t tid = (uint32_t)hr_relay_pid;
    (void)hr_relay_find(relay, tid, hr_slot_pack(tid, hr_relay_side(relay), HR_NONE, 0));
}

void hr_transition_after_fork(void) {
    hr_relay_pid = getpid();
    hurries = 0;
    if (!was_main)
        hr_is_main_forked = 1;
    hr_relay_after_fork();
    hr_requests_after_fork();
    if (opened && opened->relay && opened->state != PREPARED && opened->state != FINISHED)
        renew(opened);
}

__attribute__((constructor)) static void know_process(void) {
    hr_relay_pid = getpid();
}
