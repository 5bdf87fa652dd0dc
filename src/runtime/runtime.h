/* SPDX-License-Identifier: MIT
 *
 * runtime.h: the types that the whole core shares, and every file's face.
 *
 * Vocabulary (Go's):
 *   G      a goroutine.  The Python object `Goroutine` is the G itself.
 *   M      an OS thread that uses the runtime, with all that it schedules:
 *          run queue, inbox, timers, free lists.  It is also Go's P.
 *   Sudog  a G waiting in one queue.  One G waits in one queue (its own
 *          embedded Sudog), or, in a select, in several.
 *   Run    a `run()` call: the goroutines started under it and their main.
 *
 * Ownership rules:
 *   - A G that has started stays on its M.  Only that M's thread changes its
 *     stack slice, its saved interpreter state and its status.
 *   - Any thread may wake a G.  It first claims it (g_claim), which only one
 *     waker of a park can, then calls goready().
 *   - The runtime owns one reference to every G that is not dead, and to
 *     every thread's own G as long as its M lives.
 *   - On builds with a GIL all of this is guarded by the GIL, and the locks
 *     below compile to nothing.  Free-threaded builds take a Lock per channel
 *     and per primitive; who holds which lock is said at each field.
 *
 * Lock order: channel locks (a select takes several, by address) -> nothing.
 * sched.mu and the blocking pool's mutex come last, in this order; neither is
 * held across a call into Python.
 */
#ifndef GOROUTINES_RUNTIME_H
#define GOROUTINES_RUNTIME_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_BUILD_CORE_MODULE
#define Py_BUILD_CORE_MODULE 1 /* the thread state's inner fields: compat.h */
#endif
#include <Python.h>
#include <structmember.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HIDDEN __attribute__((visibility("hidden")))
#define NOINLINE __attribute__((noinline))

/* For the tables of methods. */
#define FASTKW (METH_FASTCALL | METH_KEYWORDS)
#define METHOD(name, fn, flags, doc) {name, (PyCFunction)(void (*)(void))fn, flags, doc}

typedef struct G G;
typedef struct M M;
typedef struct Run Run;
typedef struct Sudog Sudog;
typedef struct Timer Timer;
typedef struct Chan Chan;
typedef struct Scope Scope;
typedef struct PollDesc PollDesc;

/* ---- Locks: real on free-threaded builds, nothing under the GIL ---------- */

#ifdef Py_GIL_DISABLED
typedef PyMutex Lock;
#define LOCK(l) PyMutex_Lock(l)
#define UNLOCK(l) PyMutex_Unlock(l)
#else
typedef struct {
    char unused[0];
} Lock;
#define LOCK(l) ((void)0)
#define UNLOCK(l) ((void)0)
#endif

/* ---- Waiting --------------------------------------------------------------- */

/* Why a G waits.  Every kind of park has its own word: wait_reason_name[]. */
typedef enum {
    WAIT_NONE,
    WAIT_CHAN_RECEIVE,
    WAIT_CHAN_SEND,
    WAIT_SELECT,
    WAIT_SELECT_NO_CASES,
    WAIT_SLEEP,
    WAIT_WAITGROUP,
    WAIT_MUTEX_LOCK,
    WAIT_RWMUTEX_LOCK,
    WAIT_RWMUTEX_RLOCK,
    WAIT_COND,
    WAIT_SEMAPHORE,
    WAIT_ONCE,
    WAIT_JOIN,
    WAIT_BLOCKING,
    WAIT_GOEXIT,
    WAIT_RUN,
    WAIT_QUIET,
    WAIT_FUTURE,
    WAIT_POOL_IDLE,
    WAIT_POOL_ROOM,
    WAIT_POOL_END,
    WAIT_IO,
    WAIT_THREAD_LOCK,
    WAIT_THREAD_RLOCK,
    WAIT_SIMPLE_QUEUE,
    WAIT_PROC,
    WAIT_REASONS
} WaitReason;

/* How a park ended.  Written once for each park, by whoever claims the G. */
typedef enum {
    WAKE_NOT_YET,   /* still waiting */
    WAKE_READY,     /* what it waited for happened */
    WAKE_TIMEOUT,   /* its timer fired first */
    WAKE_EXCEPTION, /* g->pending is to be raised */
    WAKE_SCOPE,     /* a context.scope around it ended */
} Wake;

struct Sudog {
    Sudog *next, *prev; /* in a WaitQ; guarded by the queue's lock */
    G *g;
    PyObject *elem; /* owned: the value to send, or the value handed over; or, in a wait
                       that hands nothing over, the object that is waited for */
    union {
        Chan *chan;
        Py_ssize_t n; /* what a waiter for a count wants of it */
    };
    int32_t index; /* position among the cases of a select */
    bool is_send;
    bool queued; /* stands in the WaitQ of `chan` (or of its object) */
    bool closed; /* woken by close() */
    bool retry;  /* woken to look again: a timer's channel was stopped or reset */
};

typedef struct {
    Sudog *first, *last;
} WaitQ;

/* ---- Goroutines -------------------------------------------------------------- */

typedef enum {
    G_RUNNABLE, /* on a run queue or in an inbox */
    G_RUNNING,  /* m->curg, its stack is the thread's */
    G_WAITING,  /* in some WaitQ, timer heap or job; its M may still be on its stack */
    G_DEAD,
} GStatus;

/* What a wake-up touches comes first: with very many goroutines each cache line
 * of each is a miss. */
struct G {
    PyObject_HEAD
    G *schedlink; /* next in run queue, inbox or free list; owner: that list */
    M *m;         /* changes only while unstarted */

    _Atomic(uint8_t) wake; /* Wake; 0 while waiting, claimed by CAS */
    uint8_t status;        /* GStatus; written by m's thread */
    uint8_t reason;        /* WaitReason, valid while G_WAITING */
    bool started : 1;      /* owns a slice of m's stack */
    bool in_call : 1;      /* in C code that must not be preempted where it looks for signals */
    uint8_t locks : 6;     /* calls of lock_os_thread not undone yet */
    bool thread_main;      /* the own G of an OS thread, or a forked child's main */
    _Atomic(bool) exiting; /* run() is over: GoroutineExit at each park */
    bool system;           /* started by the runtime; not counted, not listed */
    bool insists;          /* neither scopes nor run()'s end end its waits; by mu */
    Lock mu;               /* guards joiners, pending, the chain of scopes */
    Timer *timer;          /* of the present wait; NULL once fired */

    /* The stack slice [sp, m->base) while another G uses the region. */
    void *sp;
    char *slice;
    uint32_t slice_len, slice_cap;

    PyObject *pending; /* owned exception to raise at the next park, or NULL */
    Scope *scope; /* the innermost context.scope, owned, or NULL; its thread's and mu's */
    Sudog *fired; /* the one that a waker took; set with WAKE_READY */
    uint32_t nparks; /* parks since it started: statistics and debugging */
    int birth_lasti;

    PyState ps; /* the interpreter's per-thread state, while not running */
    Sudog sg;   /* for all waits but select */

    PyObject *fn;      /* owned; NULL once finished */
    PyObject *args;    /* owned tuple: positional, then keyword values; or NULL */
    PyObject *kwnames; /* owned tuple of names, or NULL */
    PyObject *name;    /* owned str, or NULL: the default */
    WaitQ joiners;

    int64_t id, parent_id; /* shown by g_shown_id; who forks keeps it, with the locks it owns */
    PyObject *birth_code; /* owned code object of the function that called go() */
    Run *run;            /* counted reference */
    PyObject *waitgroup; /* owned: done() when the function ends, or NULL */
    PyObject *weakrefs;
    G *allnext, *allprev; /* m->allgs; guarded by m->mu */
#ifdef Py_GIL_DISABLED
    uint32_t turn; /* its place in its M's order: runq and fresh are one queue in two parts */
#endif
};

struct Run {
    _Atomic(Py_ssize_t) refs;
    G *main;                  /* borrowed; NULL when the run is over */
    _Atomic(int64_t) live; /* goroutines of this run that are not dead */
};

typedef struct {
    G *head, *tail;
    uint32_t n;
} GQueue;

/* ---- Timers -------------------------------------------------------------------- */

struct Timer {
    int64_t when;              /* monotonic nanoseconds: not before */
    void (*fire)(M *, void *); /* NULL once stopped */
    void *arg;
    uint64_t id; /* 0 once fired or stopped */
    Timer *next_free;
};

typedef struct {
    int64_t when; /* not later than this, if the thread is idle */
    Timer *t;
} TimerSlot;

typedef struct {
    Lock mu;         /* guards all below */
    TimerSlot *heap; /* 4-ary, least `when` first */
    Py_ssize_t n, cap, stopped;
    Timer *free;
    uint64_t last_id;
} Timers;

/* ---- Threads -------------------------------------------------------------------- */

/* What sysmon knows of an M. */
typedef struct {
    _Atomic(uint64_t) nswitch; /* the M's when it last looked */
    _Atomic(int64_t) since;    /* when the M began what it does now, or last answered */
    _Atomic(int64_t) stuck;    /* ns that its goroutine has not answered */
    _Atomic(bool) poked;       /* it is to answer between two bytecodes; reset by that */
    _Atomic(bool) may_leave;   /* and then to let others run */
    _Atomic(bool) told;        /* the watchdog has spoken of it */
    int64_t cpu;               /* that its thread had used at the last look; sysmon's */
} Watch;

/* What goroutines of an M may take of its stack: limit.c's. */
typedef struct {
    size_t room; /* what C code may use below the base before the thread's own end is near */
    int c_left;  /* 3.12, 3.13: C recursion left at the base */
    _Atomic(int) counts; /* up to 3.13: what a new goroutine gets of it; 3.11: of all recursion */
    atomic_uintptr_t c_end[2]; /* 3.14+: where C recursion ends, for goroutines and the thread */
    int64_t of;       /* id of whom the next four are about */
    uint64_t nswitch; /* the M's when `frames` was last right */
    size_t frames;    /* bytes of its chunks */
    int excess;       /* chunks too much that it was given one after the other */
    int held;         /* 3.12+: Python calls that it is not allowed meanwhile */
} Limits;

#define CACHE_LINE 64

struct M {
    PyThreadState *ts;
    pthread_t thread;
    G *curg;    /* the running G; NULL while the thread looks for work */
    G *loaded;  /* whose interpreter state is in ts; NULL: a dead one's */
    G *g0;      /* the thread's own goroutine: "main" in the main thread */
    char *base; /* goroutines run below this address */
    char *sp;   /* of who parked last, once the thread has found nothing to do */
    GQueue runq; /* woken goroutines; with a GIL unstarted ones too */
    GQueue hogs; /* preempted ones: when nobody else can run, and now and then */
#ifdef Py_GIL_DISABLED
    GQueue fresh;                 /* unstarted ones, that other Ms may take; guarded by mu */
    _Atomic(uint32_t) nfresh;     /* its length; written under mu */
    _Atomic(uint32_t) fresh_turn; /* its first one's turn; written under mu */
    _Atomic(uint32_t) turn;       /* the next one to give; written by its thread */
    uint32_t mark_turn;           /* procs.c's: what had a lower turn was there at marked; */
    int64_t marked;               /* guarded by sched.mu; 0: not marked */
#endif
    int proc;              /* 0: main, n: started by the runtime, -1: the program's own thread */
    _Atomic(bool) surplus; /* starts no goroutine: there are GOMAXPROCS others */
    _Atomic(bool) stop;    /* to end: the process does */
    bool resting, spins;   /* sleeps, looks for work; procs.c's, guarded by sched.mu */
    int nlocked;           /* goroutines that called lock_os_thread: none is started here */
    Lock mu;               /* guards allgs and fresh */
    Watch watch;
    uint32_t tick;      /* searches for work */
    uint32_t look_tick; /* of the last deadlock report that was asked for */
    bool in_gc;     /* the collector runs on this thread: no switching */
    bool is_main;   /* Python's main thread: serves signals */
    bool is_worker; /* a thread of the blocking pool */
    uint64_t rng;
    Limits limits;
    ThreadVars vars;  /* the thread's, while a goroutine that has its own runs */
    ThreadVars *vars_now; /* what ts holds: &vars or a goroutine's */
    PyObject *told_loop; /* 3.11, 3.12: what asyncio takes for the running loop; borrowed */

    Timers timers;
    int wakefd, pollfd;   /* netpoll's: eventfd and epoll, or a kqueue */
    Lock pollmu;          /* guards polls and what is in it */
    PollDesc **polls;     /* by descriptor; NULL: never waited for here */
    int npolls;           /* the length of polls */
    Py_ssize_t npollwait; /* goroutines that wait for descriptors */
    uint64_t io_switch;   /* nswitch when io_left was set */
    char *scratch;        /* of SCRATCH bytes, or NULL: what a receive fills first */
    int io_left;          /* calls that found data at once before others have a turn */

    _PyStackChunk *chunks; /* free first chunks of goroutine frames, LIFO */
    G *freeg;
    int nfreeg;
    void *arenas[16]; /* cached 16 KiB data stack chunks */
    int narenas;
    _Atomic(int64_t) stack_inuse, stack_spare; /* bytes, for read_mem_stats; own thread's */

    G *allgs; /* every G of this M that is not dead; guarded by mu */
    M *next;  /* sched.ms; guarded by sched.mu */
    uint64_t nswitch, nparks; /* how often, for schedtrace */

    /* On a cache line of their own: others write them, and m's thread watches them. */
    _Alignas(CACHE_LINE) _Atomic(G *) inbox; /* pushed to by other threads, LIFO */
    _Atomic(bool) sleeping; /* set before the thread sleeps, cleared by its waker */
};

/* Counters that only threads with the GIL change need no locked instruction,
 * which costs as much as the rest of go(). */
#ifdef Py_GIL_DISABLED
#define COUNT(counter, n) atomic_fetch_add_explicit(counter, n, memory_order_relaxed)
#else
#define COUNT(counter, n) count_relaxed(counter, n)
static inline int64_t
count_relaxed(_Atomic(int64_t) *counter, int64_t n)
{
    int64_t was = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, was + n, memory_order_relaxed);
    return was;
}
#endif

/* sched.mu matters only where threads run Python at the same time. */
#ifdef Py_GIL_DISABLED
#define LOCK_SCHED() pthread_mutex_lock(&sched.mu)
#define UNLOCK_SCHED() pthread_mutex_unlock(&sched.mu)
#else
#define LOCK_SCHED() ((void)0)
#define UNLOCK_SCHED() ((void)0)
#endif

/* The list of Ms is read by sysmon, which has no GIL. */
#define LOCK_MS() pthread_mutex_lock(&sched.mu)
#define UNLOCK_MS() pthread_mutex_unlock(&sched.mu)

/* What the process has once. */
typedef struct {
    pthread_mutex_t mu; /* guards ms and quiet; taken before an M's mu or pollmu */
    M *ms;
    M *main; /* M of Python's main thread, made at import */
    G *maing;
    _Atomic(int64_t) next_id;
    _Atomic(int64_t) ngoroutines; /* started by go() and not dead */
    _Atomic(int64_t) ntimers;     /* armed timers that could wake somebody */
    WaitQ quiet; /* wait until nothing can run; guarded by mu */
    _Atomic(int64_t) npollwait;      /* goroutines that wait for a descriptor */
    _Atomic(Py_ssize_t) nblocking;   /* calls under way in the blocking pool */
    _Atomic(uint64_t) npreempts, nwakes, nsteals, ncollections; /* for schedtrace */
    bool finalizing;
    bool reporting; /* a deadlock: leak.c */
    bool vars_apart;  /* `threading` is patched: goroutines have ThreadVars of their own */
    bool traced; /* threading.settrace or setprofile was called: begin_trace is called */
    bool loops_park;  /* `selectors` is patched: event loops let others run */

    /* What the Python side supplies; owned. */
    PyObject *uncaught;      /* (goroutine, exc) -> exception for main, or None */
    PyObject *deadlock; /* () -> the exception to raise in main, or None: not yet */
    PyObject *goroutine_exit, *channel_closed, *panic;
    PyObject *begin_trace; /* () -> None, in each new goroutine that has its own ThreadVars */
    PyObject *set_running_loop; /* asyncio's, once it is patched: 3.11, 3.12 */
    PyObject *run_signals;     /* C function: run the signal handlers */
    PyObject *report_deadlock; /* C function: deadlock_report */
    PyObject *report_stuck;    /* (goroutine, seconds, frames) -> None: the watchdog's */
    PyObject *leak_found; /* (goroutine, would_end) -> None: it is about to be ended */
    PyObject *leak_measure; /* (code, lasti) -> (slots, held): leak.c */
    PyObject *deferring; /* the records of @defers, by frame */
} Sched;

extern HIDDEN Sched sched;
extern HIDDEN _Thread_local M *tls_m TLS_MODEL;

extern HIDDEN PyTypeObject *g_type, *chan_type, *case_type;

/* ---- proc.c: spawn, park, ready, schedule ------------------------------------------ */

HIDDEN G *g_new(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
HIDDEN void g_start(M *m, G *g);
HIDDEN void g_start_for(M *m, G *g, int64_t parent_id, Run *run);
HIDDEN PyObject *birth_code(M *m, int *lasti);
HIDDEN int join(M *m, G *g, int64_t ns, WaitReason why);
HIDDEN Wake gopark(M *m, G *g, int64_t timeout, WaitReason why);
HIDDEN void goready(G *g);
HIDDEN void m_rouse(M *m);
HIDDEN void g_move(G *g, M *to);
HIDDEN int gosched(M *m);
HIDDEN void gopreempt(M *m);
HIDDEN void start_system(M *m, PyObject *fn);
HIDDEN int wait_quiet(M *m);
HIDDEN int park_check(M *m, G *g);
HIDDEN void g_interrupt(G *g, PyObject *exc);
HIDDEN void raise_pending(G *g);
HIDDEN int wake_error(G *g, Wake how, const char *op, PyObject *o);
HIDDEN int may_wait(M *m, int64_t ns, const char *op, PyObject *o);
HIDDEN int wait_in(M *m, WaitQ *q, Lock *mu, int64_t ns, WaitReason why, const char *op,
                   PyObject *o);
HIDDEN int wait_queued(M *m, WaitQ *q, Lock *mu, int64_t ns, WaitReason why, const char *op,
                       PyObject *o);
HIDDEN void waitq_wake_all(WaitQ *q, G **wake);
HIDDEN void goready_all(G *wake);
HIDDEN void inbox_put(M *m, G *g);
HIDDEN bool inbox_drain(M *m);
HIDDEN bool has_work(M *m);
HIDDEN void enqueue(M *m, G *g);
HIDDEN void allgs_add(M *m, G *g);
HIDDEN void allgs_remove(M *m, G *g);
HIDDEN void g_discard(M *m, G *g);
HIDDEN void g_mark_dead(G *g);
HIDDEN void run_release(Run *run);

/* ---- procs.c: many Ms ---------------------------------------------------------------------- */

#define PROCS_MOST 1024
#define LOCKS_MOST 63
HIDDEN int procs_set(int n);
HIDDEN bool procs_shared(void);
HIDDEN void procs_lock(M *m, int n);
HIDDEN int procs_spinning(void);
HIDDEN int queue_length(M *m);
HIDDEN int procs_add_functions(PyObject *mod);
HIDDEN void procs_stop(void);
HIDDEN void procs_after_fork(void);
#ifdef Py_GIL_DISABLED
extern HIDDEN _Atomic(int) procs_helpers; /* Ms that could come and take work */
HIDDEN void fresh_put(M *m, G *g);
HIDDEN G *fresh_or_woken(M *m);
HIDDEN G *fresh_take(M *m, Run *run);
HIDDEN void fresh_hand_over(M *m);
HIDDEN void procs_wake(void);
HIDDEN void procs_compensate(int stuck);
HIDDEN bool procs_find_work(M *m, int64_t ns);
HIDDEN void procs_sleeps(M *m);
HIDDEN void procs_wakes(M *m);
#endif

/* ---- run.c, thread.c ------------------------------------------------------------------- */

HIDDEN int wait_for_end(M *m, Run *run);
HIDDEN void hand_over_unstarted(M *m);
HIDDEN void signals_block(sigset_t *old);
HIDDEN void threads_after_fork(void);
HIDDEN void threads_shutdown(void);
HIDDEN int threads_init(void);
HIDDEN M *m_create(void);
HIDDEN void thread_exit(M *m);
HIDDEN PyObject *run_main(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames);
extern HIDDEN const char *const wait_reason_name[WAIT_REASONS];

/* ---- inline: what every operation does ----------------------------------------------- */

/* The M of this thread; made on its first use.  NULL with MemoryError. */
static inline M *
getm(void)
{
    M *m = tls_m;
    return LIKELY(m != NULL) ? m : m_create();
}

/* Who runs on m; between goroutines, the thread itself. */
static inline G *
current_g(M *m)
{
    return m->curg != NULL ? m->curg : m->g0;
}

/* The id that everybody sees: main's is 1, in a forked child too. */
static inline int64_t
g_shown_id(const G *g)
{
    return g == sched.maing ? 1 : g->id;
}

/* Claim the right to wake g from its present park.  Only one waker gets it. */
static inline bool
g_claim(G *g, Wake how)
{
#ifdef Py_GIL_DISABLED
    uint8_t not_yet = WAKE_NOT_YET;
    return atomic_compare_exchange_strong(&g->wake, &not_yet, (uint8_t)how);
#else
    if (atomic_load_explicit(&g->wake, memory_order_relaxed) != WAKE_NOT_YET) {
        return false;
    }
    atomic_store_explicit(&g->wake, (uint8_t)how, memory_order_relaxed);
    return true;
#endif
}

/* To be called before g's Sudog can be seen by a waker. */
static inline void
g_will_wait(G *g)
{
#ifdef Py_GIL_DISABLED
    atomic_store(&g->wake, WAKE_NOT_YET); /* before the look at g->pending in gopark */
#else
    atomic_store_explicit(&g->wake, WAKE_NOT_YET, memory_order_relaxed);
#endif
}

/* ---- the queue of waiters, first in, first out --------------------------------------- */

static inline void
waitq_push(WaitQ *q, Sudog *sg)
{
    sg->next = NULL;
    sg->prev = q->last;
    if (q->last != NULL) {
        q->last->next = sg;
    }
    else {
        q->first = sg;
    }
    q->last = sg;
    sg->queued = true;
}

/* For who was woken, lost the race and waits again. */
static inline void
waitq_push_front(WaitQ *q, Sudog *sg)
{
    sg->prev = NULL;
    sg->next = q->first;
    if (q->first != NULL) {
        q->first->prev = sg;
    }
    else {
        q->last = sg;
    }
    q->first = sg;
    sg->queued = true;
}

static inline void
waitq_remove(WaitQ *q, Sudog *sg)
{
    if (!sg->queued) {
        return;
    }
    if (sg->prev != NULL) {
        sg->prev->next = sg->next;
    }
    else {
        q->first = sg->next;
    }
    if (sg->next != NULL) {
        sg->next->prev = sg->prev;
    }
    else {
        q->last = sg->prev;
    }
    sg->queued = false;
}

/* Take sg out of q and claim its G.  False: somebody else has woken it. */
static inline bool
waitq_claim_one(WaitQ *q, Sudog *sg)
{
    waitq_remove(q, sg);
    if (!g_claim(sg->g, WAKE_READY)) {
        return false;
    }
    sg->g->fired = sg;
    return true;
}

/* Take the first waiter that nobody else has woken yet, claimed; or NULL. */
static inline Sudog *
waitq_claim(WaitQ *q)
{
    Sudog *sg;
    while ((sg = q->first) != NULL) {
        if (waitq_claim_one(q, sg)) {
            return sg;
        }
    }
    return NULL;
}

/* Whether waitq_claim would find somebody.  Drops those woken elsewhere. */
static inline bool
waitq_has_waiter(WaitQ *q)
{
    Sudog *sg;
    while ((sg = q->first) != NULL) {
        if (atomic_load_explicit(&sg->g->wake, memory_order_relaxed) == WAKE_NOT_YET) {
            return true;
        }
        waitq_remove(q, sg);
    }
    return false;
}

/* ---- the run queue, for its M's thread only ------------------------------------------ */

static inline void
runq_put(GQueue *q, G *g)
{
    g->schedlink = NULL;
    if (q->tail != NULL) {
        q->tail->schedlink = g;
    }
    else {
        q->head = g;
    }
    q->tail = g;
    q->n++;
}

static inline G *
runq_get(GQueue *q)
{
    G *g = q->head;
    if (g != NULL) {
        q->head = g->schedlink;
        q->n--;
        if (q->head == NULL) {
            q->tail = NULL;
        }
        else { /* with very many goroutines each is a cache miss: start the next one's now */
            __builtin_prefetch(q->head->slice);
            __builtin_prefetch(&q->head->ps);
            __builtin_prefetch(q->head->schedlink);
        }
    }
    return g;
}

/* ---- stack.c, asm_*.S: the switch ---------------------------------------------------- */

/* Save the running stack in *save_sp (and out's slice), continue at sp after
 * bringing back in's slice.  out NULL: the running stack is given up. */
void go_switch(void **save_sp, void *sp, G *out, G *in) HIDDEN;
/* The same, but begin `entry` at the stack address sp. */
void go_begin(void **save_sp, void *sp, G *out, void (*entry)(void)) HIDDEN;
/* Called by both, from assembler. */
void go_slice_save(G *g, char *sp) HIDDEN;
void go_slice_load(G *g) HIDDEN;
HIDDEN void slice_free(G *g);
HIDDEN _PyStackChunk *chunk_get(M *m);
HIDDEN void chunk_put(M *m, _PyStackChunk *c);
HIDDEN void arena_cache_install(void);
HIDDEN void stack_forget(M *m);
typedef struct {
    Py_ssize_t inuse, sys;
} StackBytes;
HIDDEN StackBytes stack_bytes(void);
#define DATA_CHUNK (16 * 1024) /* CPython's, for Python frames */

/* ---- limit.c: what a stack may take ---------------------------------------------------- */

HIDDEN void limits_bind(M *m);
HIDDEN bool limit_look(M *m, ptrdiff_t change);
HIDDEN _PyStackChunk *limit_nobodys_chunk(void);
HIDDEN PyObject *g_stack_bytes(G *g, void *unused);
HIDDEN int limit_add_functions(PyObject *mod);

/* ---- time.c --------------------------------------------------------------------------- */

#define FOREVER INT64_MAX
HIDDEN int64_t nanotime(void);
HIDDEN Timer *timer_start(M *m, int64_t ns, void (*fire)(M *, void *), void *arg);
HIDDEN void timer_stop(M *m, Timer *t);
HIDDEN bool timer_cancel(M *m, Timer *t, uint64_t id);
HIDDEN int64_t timers_next(M *m);
HIDDEN bool timers_run(M *m);
HIDDEN int64_t clock_now(void);
HIDDEN bool clock_freeze(bool on);
HIDDEN bool clock_is_frozen(void);
HIDDEN void clock_jump(M *self);
HIDDEN void timers_forget(M *m);
HIDDEN void timers_disown(M *m);
/* Seconds -> nanoseconds to wait; None: -1, negative: 0, huge: FOREVER. */
HIDDEN int seconds_arg(PyObject *o, const char *what, int64_t *ns);
HIDDEN int timeout_arg(PyObject *o, int64_t *ns);
HIDDEN int sleep_ns(M *m, int64_t ns);

/* What is left of ns nanoseconds (-1: no limit) that began at `since`. */
static inline int64_t
time_left(int64_t ns, int64_t since)
{
    if (ns < 0) {
        return -1;
    }
    int64_t left = ns - (clock_now() - since);
    return left > 0 ? left : 0;
}

/* ---- netpoll.c: how a thread sleeps ----------------------------------------------------- */

#define SCRATCH (64 * 1024)

enum { POLL_READ = 1, POLL_WRITE = 2, POLL_PRIO = 4 };

/* What somebody waits for, and what he got. */
typedef struct {
    int fd;
    int modes;
} PollWant;

typedef enum {
    POLL_READY,
    POLL_TIMEOUT,
    POLL_CLOSED,
    POLL_REFUSED,
    POLL_AT_ONCE, /* within netpoll.c */
    POLL_ERROR = -1,
} PollResult;

HIDDEN PollResult netpoll_wait(M *m, PollWant want, int64_t ns, bool added);
HIDDEN PollResult netpoll_wait_any(M *m, const PollWant *wants, Py_ssize_t n, int64_t ns);
HIDDEN int netpoll_turn(M *m);
HIDDEN void netpoll_drained(M *m, int fd);
HIDDEN bool netpoll_is_drained(M *m, int fd);
HIDDEN void netpoll_closed(int fd);
HIDDEN void netpoll_wake(int fd);
HIDDEN void netpoll_fresh(int fd);
HIDDEN bool netpoll_look(M *m);
HIDDEN bool netpoll_pending(M *m);
HIDDEN int netpoll_add_functions(PyObject *mod);
HIDDEN int socket_add_functions(PyObject *mod);
HIDDEN int lock_add_types(PyObject *mod);
HIDDEN int lock_timeout(bool block, PyObject *timeout, int64_t *ns);
HIDDEN int native_add_functions(PyObject *mod);
HIDDEN void native_after_fork(void);
HIDDEN int netpoll_open(M *m);
HIDDEN int netpoll_sleep(M *m, int64_t ns);
HIDDEN void netpoll_break(M *m);
HIDDEN void netpoll_close(M *m);

/* ---- sysmon.c: preemption, the watchdog, schedtrace ------------------------------------------ */

extern HIDDEN _Atomic(bool) sysmon_asleep;
HIDDEN void sysmon_rouse(void);
HIDDEN int sysmon_need(void);
HIDDEN void sysmon_stop(void);
HIDDEN void sysmon_after_fork(void);
HIDDEN bool sysmon_is(PyThreadState *ts);
HIDDEN int sysmon_poked(void *unused);
HIDDEN int sysmon_add_functions(PyObject *mod);

/* ---- chan.c, select.c ------------------------------------------------------------------- */

struct Chan {
    PyObject_HEAD
    Lock mu;         /* guards all below */
    bool closed;
    bool timed;  /* a timer's: timer.c */
    bool sealed; /* closed, a timer's or a context's: nobody may send */
    _Atomic(int32_t) iters; /* iterators that hold it; not by mu */
    Py_ssize_t cap, len, head;
    PyObject **buf; /* ring of owned references */
    WaitQ recvq;    /* empty unless the buffer is empty (or cap is 0) */
    WaitQ sendq;    /* empty unless the buffer is full */
    PyObject *weakrefs;
    int64_t when, period; /* of a timer's: the next tick (0: none), its period (0: once) */
};

typedef struct {
    PyObject_HEAD
    Chan *chan;      /* owned, or NULL: never ready */
    PyObject *value; /* owned; NULL: a receive */
    bool is_send, want_ok;
} Case;

HIDDEN PyObject *chan_take(Chan *c, G **wake);
HIDDEN int chan_give(Chan *c, PyObject *v, G **wake);
HIDDEN PyObject *chan_get_receiver(PyObject *chan, void *unused);
HIDDEN PyObject *chan_get_sender(PyObject *chan, void *unused);
HIDDEN void raise_closed(Chan *c, const char *what, Py_ssize_t index);
HIDDEN int chan_add_types(PyObject *mod);
HIDDEN int select_add_types(PyObject *mod);
HIDDEN Chan *chan_arg(PyObject *o, const char *who);
HIDDEN Chan *chan_of_iterator(PyObject *o);
HIDDEN bool is_select(PyObject *o);

/* ---- timer.c: channels that tick, Timer, Ticker -------------------------------------------- */

HIDDEN PyObject *tick_take(Chan *c, G **wake);
HIDDEN bool tick_is_due(Chan *c);
HIDDEN Wake park_for_ticks(M *m, Sudog *sgs, Py_ssize_t n, int64_t ns, WaitReason why);
HIDDEN void timer_funcs_hand_over(M *m);
HIDDEN int timer_add_types(PyObject *mod);

/* ---- scope.c: what ends all waits of a block -------------------------------------------------- */

HIDDEN bool scope_ended(G *g);
HIDDEN int scope_raise(G *g);
HIDDEN bool g_insist(G *g, bool on);
HIDDEN void scope_drop(G *g);
HIDDEN int scope_add_types(PyObject *mod);
HIDDEN int ends_add_types(PyObject *mod);

/* ---- mutex.c, semaphore.c, cond.c, once.c, atomic.c, cache.c: goroutines.sync ------------- */

HIDDEN int mutex_add_types(PyObject *mod);
HIDDEN int semaphore_add_types(PyObject *mod);
HIDDEN int cond_add_types(PyObject *mod);
HIDDEN int once_add_types(PyObject *mod);
HIDDEN int atomic_add_types(PyObject *mod);
HIDDEN int cache_add_types(PyObject *mod);
HIDDEN void cache_full_collection(void);

/* ---- future.c, pool.c -------------------------------------------------------------------------- */

typedef enum { /* from CANCELLED on it is done */
               FUTURE_PENDING,
               FUTURE_RUNNING,
               FUTURE_CANCELLED, /* by hand: set_running_or_notify_cancel is to come */
               FUTURE_NOTIFIED,  /* cancelled, and whoever would have done it knows */
               FUTURE_FINISHED,
} FutureState;

/* concurrent.futures.Future and the task behind it.  What has no other word
 * is guarded by mu. */
typedef struct Future {
    PyObject_HEAD
    Lock mu;
    _Atomic(uint8_t) state; /* FutureState; written under mu, read by all */
    uint8_t shown;          /* what `_state` says while there are holders */
    bool owes;              /* done while held: tell the waiters later */
    bool is_task;           /* cancelling is final: nobody has to notice */
    bool queued;            /* stands in pool's queue; guarded by the pool's mu */
    int holders;            /* of its `_condition` */
    PyObject *result, *exc; /* owned; one of them once FINISHED, then constant */
    PyObject *callbacks;    /* owned list, or NULL */
    PyObject *waiters;      /* owned list: concurrent.futures', or NULL */
    PyObject *foreign;      /* owned future of the executor that does the work, or NULL */
    WaitQ q;

    /* The task, owned: of who runs it, or cancelled it before. */
    PyObject *fn, *args, *kwnames; /* args: positional, then keyword values; or NULL */
    PyObject *context;             /* a contextvars context, or NULL */
    PyObject *outcome, *failure;   /* of a Group's task, between _run and _finish */
    PyObject *pool;                /* owned; of who made it RUNNING or NOTIFIED */
    const Run *run;                /* that it was submitted in: to compare */
    struct Future *next, *prev;    /* in the pool's queue; guarded by its mu */
} Future;

/* Whom to tell that a future is done. */
typedef struct {
    G *wake;
    PyObject *waiters, *callbacks;
} News;

extern HIDDEN PyTypeObject *future_type;

HIDDEN Future *future_new_task(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames);
HIDDEN bool future_begin(Future *f);
HIDDEN PyObject *future_run_task(M *m, Future *f, PyObject *through, PyObject **exc);
HIDDEN bool future_settle(Future *f, FutureState state, PyObject *result, PyObject *exc, News *n);
HIDDEN void future_drop_task(Future *f);
HIDDEN bool future_is_cancelled_error(PyObject *exc);
HIDDEN int future_tell(Future *f, News *n);
HIDDEN PyObject *future_set_hooks(PyObject *mod, PyObject *args);
HIDDEN int future_add_types(PyObject *mod);
HIDDEN void pool_unqueue(Future *f);
HIDDEN PyObject *pool_set_full(PyObject *mod, PyObject *exception);
HIDDEN PyObject *pool_set_away_hook(PyObject *mod, PyObject *start);
HIDDEN PyObject *pool_go_where_it_runs(PyObject *mod, PyObject *fn);
HIDDEN int pool_add_types(PyObject *mod);

/* ---- leak.c: goroutines that nothing can wake ------------------------------------------------ */

HIDDEN void leaks_after_collection(M *m, bool full);
HIDDEN void leaks_after_fork(void);
HIDDEN int leak_add_functions(PyObject *mod);

/* ---- sema.c, blocking.c, debug.c, goroutine.c --------------------------------------------- */

HIDDEN int sema_add_types(PyObject *mod);
HIDDEN int waitgroup_add(PyObject *wg, Py_ssize_t delta);
HIDDEN bool blocking_is_worker(PyThreadState *ts);
HIDDEN PyObject *blocking_call(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs,
                               PyObject *kwnames);
HIDDEN PyObject *blocking_stats(PyObject *mod, PyObject *unused);
HIDDEN int blocking_set_max(int n);
HIDDEN void blocking_after_fork(void);
HIDDEN void blocking_shutdown(void);
HIDDEN int goroutine_add_type(PyObject *mod);
HIDDEN PyObject *g_created_by(G *g);
HIDDEN PyObject *g_frames(G *g);
HIDDEN const char *g_state_name(G *g);
HIDDEN PyObject *all_goroutines(void);
HIDDEN bool nothing_runnable(M *self);
HIDDEN bool deadlock_suspected(M *m, bool *held_back);
HIDDEN PyObject *deadlock_report(PyObject *self, PyObject *unused);

/* A broken invariant: say so, dump, end the process. */
HIDDEN void throw_(const char *what) __attribute__((noreturn));
#ifdef GOROUTINES_DEBUG
#define INVARIANT(cond) ((cond) ? (void)0 : throw_(#cond))
#else
#define INVARIANT(cond) ((void)0)
#endif

#ifdef GOROUTINES_TORTURE
HIDDEN void torture(M *m);
HIDDEN void torture_switch(M *m);
#define TORTURE(m) torture(m)
#else
#define TORTURE(m) ((void)0)
#endif

/* Whether park_check has anything to say; cheap enough to ask under a lock. */
static inline bool
park_needs_check(M *m)
{
#ifdef GOROUTINES_TORTURE
    (void)m;
    return true;
#else
    G *g = m->curg;
    return g == NULL || m->in_gc || g->exiting || g->scope != NULL || sched.finalizing;
#endif
}

/* ---- src/memory: the values of goroutines.memory ------------------------------------------- */

HIDDEN int memory_add_types(PyObject *mod);

/* ---- module.c: what the types share ------------------------------------------------------ */

/* Take the call's arguments as (fn, *args, **kwargs) or raise TypeError. */
HIDDEN int may_start(PyObject *fn);
HIDDEN PyObject *callable_arg(const char *who, PyObject *const *args, Py_ssize_t nargs);
HIDDEN int named_args(const char *who, const char *const *names, Py_ssize_t required,
                      PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **out);
HIDDEN int timeout_only(const char *who, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                        int64_t *ns);
HIDDEN void plain_dealloc(PyObject *o);
HIDDEN PyTypeObject *add_type(PyObject *mod, PyType_Spec *spec);

#endif
