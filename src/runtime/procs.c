/* SPDX-License-Identifier: MIT
 *
 * procs.c: the Ms that the runtime starts, and how they come by work.
 *
 * Without a GIL goroutines run on GOMAXPROCS Ms at the same time: the main
 * thread's and `procs`, threads that the runtime starts when there is work and
 * keeps.  A goroutine that has started stays on its M; one that has not stands
 * in its M's `fresh` queue, from which an M with nothing to do takes half.
 *
 * Who takes, and when:
 *   - An M that has nothing to do spins for a moment: goroutines of other Ms
 *     may wake its own.  It takes what has waited for STEAL_AFTER in another
 *     M's queue; what its M would begin sooner itself is not worth the way.
 *   - Who queues a goroutine brings a sleeping M if nobody spins, at most once
 *     each `gap`, which grows when those who came found nothing.  An M that
 *     took some brings the next.  sysmon looks each turn whether anything was
 *     forgotten, and lets a further M in for each that is stuck in a C call.
 *   - Nobody takes from a thread of the program's own, whose goroutines end with it.
 *
 * Rejected: Go's lock-free ring.  A goroutine's start costs two uncontended
 * locks of one byte here, some 5 ns each, and order, listing and run()'s end
 * need the queue to be walked.  Rejected too: handing work to who asks; one
 * that computes does not answer.
 *
 * Invariants:
 *   - An unstarted goroutine is in exactly one M's fresh queue or inbox and in
 *     the same M's allgs; it moves under both Ms' mu, taken by address.
 *   - runq and fresh are one queue in the order of `turn`, so that one M alone
 *     begins and resumes goroutines in the order in which they became ready.
 *
 * Lock rules: `procs` is guarded by sched.mu, which a spinning M without a
 * thread state takes too: it is never held over a wait.  sched.mu -> M.mu.
 *
 * With a GIL there are no procs, and GOMAXPROCS is a number only.
 */
#include "runtime.h"

#include <stdio.h>
#include <time.h>

static struct {
    int max;   /* GOMAXPROCS */
    int limit; /* Ms that may start goroutines: max, stuck and locked ones apart */
#ifdef Py_GIL_DISABLED
    int nstuck, nlocked;
    int nstarted; /* procs; they end with the process */
    int nresting; /* Ms of these `limit` that sleep */
    int nspinning;
    bool stop;
    pthread_cond_t ended; /* with sched.mu */
    int64_t gap;
#endif
} procs = {.max = 1, .limit = 1};

#ifdef Py_GIL_DISABLED

#define STEAL_AFTER ((int64_t)20 * 1000)
#define SPIN ((int64_t)50 * 1000)
#define SPIN_MOST ((int64_t)200 * 1000) /* if there is work that has not waited for long */
#define GAP_LEAST ((int64_t)50 * 1000)
#define GAP_MOST ((int64_t)10 * 1000000)
#define STEAL_MOST 256

_Atomic(int) procs_helpers; /* Ms that sleep or could be started */
static _Atomic(bool) somebody_spins;
static _Atomic(int64_t) next_wake;
static _Atomic(int) awake; /* Ms of these `limit` that do not sleep */

/* ---- the queue of unstarted goroutines ----------------------------------------------- */

static inline uint32_t
nfresh(M *m)
{
    return atomic_load_explicit(&m->nfresh, memory_order_relaxed);
}

/* m->mu is held, here and in the next one. */
static inline void
fresh_append(M *m, G *g)
{
    if (m->fresh.head == NULL) {
        atomic_store_explicit(&m->fresh_turn, g->turn, memory_order_relaxed);
    }
    runq_put(&m->fresh, g);
    atomic_store_explicit(&m->nfresh, nfresh(m) + 1, memory_order_relaxed);
}

static inline G *
fresh_pop(M *m)
{
    G *g = runq_get(&m->fresh);
    if (g != NULL) {
        atomic_store_explicit(&m->nfresh, nfresh(m) - 1, memory_order_relaxed);
        if (m->fresh.head != NULL) {
            atomic_store_explicit(&m->fresh_turn, m->fresh.head->turn, memory_order_relaxed);
        }
    }
    return g;
}

void
fresh_put(M *m, G *g)
{
    LOCK(&m->mu);
    fresh_append(m, g);
    UNLOCK(&m->mu);
    if (UNLIKELY(atomic_load_explicit(&procs_helpers, memory_order_relaxed) > 0) && m->proc >= 0) {
        procs_wake();
    }
}

/* The first of m's queue in both its parts; by m's thread. */
G *
fresh_or_woken(M *m)
{
    G *g = NULL, *woken = m->runq.head;
    if (UNLIKELY(atomic_load_explicit(&m->surplus, memory_order_relaxed))) {
        hand_over_unstarted(m);
        return runq_get(&m->runq);
    }
    if (UNLIKELY(m->nlocked > 0) && m->proc >= 0) {
        return runq_get(&m->runq); /* the others will take them */
    }
    LOCK(&m->mu);
    G *fresh = m->fresh.head;
    if (fresh != NULL && (woken == NULL || (int32_t)(fresh->turn - woken->turn) < 0)) {
        g = fresh_pop(m);
    }
    UNLOCK(&m->mu);
    return g != NULL ? g : runq_get(&m->runq);
}

/* Take one out that belongs to `run` (NULL: any). */
G *
fresh_take(M *m, Run *run)
{
    GQueue keep = {0};
    G *g, *found = NULL;
    LOCK(&m->mu);
    while ((g = runq_get(&m->fresh)) != NULL) {
        if (found == NULL && (run == NULL || g->run == run)) {
            found = g;
        }
        else {
            runq_put(&keep, g);
        }
    }
    m->fresh = keep;
    if (found != NULL) {
        atomic_store(&m->nfresh, nfresh(m) - 1);
    }
    if (keep.head != NULL) {
        atomic_store(&m->fresh_turn, keep.head->turn);
    }
    UNLOCK(&m->mu);
    return found;
}

static void
lock_both(M *a, M *b)
{
    LOCK(a < b ? &a->mu : &b->mu);
    LOCK(a < b ? &b->mu : &a->mu);
}

/* Move the first of `from`, if there is one, to the end of `to`.  Both mu are held.  If
 * `to` is not the caller's, what it queues just then may get the same turn. */
static bool
fresh_move(M *from, M *to)
{
    G *g = fresh_pop(from);
    if (g == NULL) {
        return false;
    }
    g_move(g, to);
    g->turn = atomic_load_explicit(&to->turn, memory_order_relaxed);
    fresh_append(to, g);
    return true;
}

static void bring_one(void);

/* m, which is not main's, starts none of its goroutines: main's M gets them, where the
 * others find them even while it computes. */
void
fresh_hand_over(M *m)
{
    M *to = sched.main;
    bool some = false;
    lock_both(m, to);
    while (fresh_move(m, to)) {
        some = true;
    }
    UNLOCK(&m->mu);
    UNLOCK(&to->mu);
    if (some) {
        atomic_thread_fence(memory_order_seq_cst); /* see idle() */
        m_rouse(to);
        bring_one();
    }
}

/* ---- how many may work ---------------------------------------------------------------- */

/* sched.mu is held. */
static void
recount(void)
{
    int missing = procs.limit - 1 - procs.nstarted;
    int n = procs.nresting + (missing > 0 ? missing : 0);
    atomic_store(&procs_helpers, procs.limit > 1 && !procs.stop ? n : 0);
    atomic_store(&awake, 1 + procs.nstarted - procs.nresting);
}

/* After a change of what it is made of. */
static void
set_limit(void)
{
    procs.limit = procs.max + procs.nstuck + procs.nlocked;
    procs.nresting = 0;
    for (M *m = sched.ms; m != NULL; m = m->next) {
        atomic_store(&m->surplus, m->proc >= procs.limit);
        procs.nresting += m->proc >= 0 && m->proc < procs.limit && m->resting;
    }
    recount();
}

static void
note_rest(M *m, bool rests)
{
    if (m->proc < 0) {
        return;
    }
    LOCK_SCHED();
    if (m->resting != rests) {
        m->resting = rests;
        if (!atomic_load(&m->surplus)) {
            procs.nresting += rests ? 1 : -1;
            recount();
        }
    }
    UNLOCK_SCHED();
}

/* m is about to sleep.  What lies in its queue then is for others to start. */
void
procs_sleeps(M *m)
{
    note_rest(m, true);
    if (m->proc >= 0 && nfresh(m) > 0) {
        bring_one();
    }
}

void
procs_wakes(M *m)
{
    note_rest(m, false);
}

/* ---- the threads ------------------------------------------------------------------------ */

/* Its goroutines run below this frame; it comes back when the process ends. */
static void
proc_work(M *m)
{
    G *g = m->g0;
    g_will_wait(g);
    gopark(m, g, -1, WAIT_PROC);
    LOCK_SCHED();
    M **link = &sched.ms;
    while (*link != m) {
        link = &(*link)->next;
    }
    *link = m->next;
    UNLOCK_SCHED();
}

/* A proc has ended; or it could not start, and those that there are do the work. */
static void
count_out(bool failed)
{
    LOCK_SCHED();
    procs.nstarted--;
    recount();
    if (failed) {
        atomic_store(&next_wake, nanotime() + GAP_MOST);
    }
    pthread_cond_broadcast(&procs.ended);
    UNLOCK_SCHED();
}

static void
proc_main(void *arg)
{
    char name[16];
    int number = (int)(intptr_t)arg;
    bool failed = false;
    snprintf(name, sizeof(name), "go-proc-%u", (unsigned)number % 1000);
    pthread_setname_np(pthread_self(), name);
    PyGILState_STATE gil = PyGILState_Ensure();
    M *m = getm();
    if (m == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    else if (netpoll_open(m) < 0) {
        failed = true; /* no descriptors: goroutines here could not wait for any */
    }
    else {
        LOCK_SCHED();
        m->proc = number;
        atomic_store(&m->surplus, number >= procs.limit);
        atomic_store(&m->stop, procs.stop);
        UNLOCK_SCHED();
        proc_work(m);
    }
    PyGILState_Release(gil);
    count_out(failed);
}

/* Signals are the main thread's. */
static void
start_proc(int number)
{
    sigset_t old;
    signals_block(&old);
    bool ok = PyThread_start_new_thread(proc_main, (void *)(intptr_t)number) !=
              PYTHREAD_INVALID_THREAD_ID;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!ok) {
        count_out(true);
    }
}

/* Whether m may start goroutines that others queue. */
static inline bool
is_helper(M *m)
{
    return m->proc >= 0 && !atomic_load(&m->surplus) && *(volatile int *)&m->nlocked == 0;
}

/* Have one more M look for work. */
static void
bring_one(void)
{
    int number = 0;
    LOCK_SCHED();
    M *m = sched.ms;
    while (m != NULL && !(is_helper(m) && atomic_load(&m->sleeping))) {
        m = m->next;
    }
    if (m != NULL) {
        m_rouse(m);
    }
    else if (procs.nstarted < procs.limit - 1 && !procs.stop && !sched.finalizing) {
        number = ++procs.nstarted;
        recount();
    }
    UNLOCK_SCHED();
    if (number > 0) {
        start_proc(number);
    }
    if (number == 1 && PyThreadState_GetUnchecked() != NULL && sysmon_need() < 0) {
        PyErr_WriteUnraisable(NULL);
    }
}

/* There is a new goroutine, and an M that could take it. */
void
procs_wake(void)
{
    if (atomic_load(&somebody_spins)) {
        return;
    }
    int64_t now = nanotime();
    if (now >= atomic_load(&next_wake)) {
        atomic_store(&next_wake, now + procs.gap);
        bring_one();
    }
}

/* sysmon tells how many Ms are stuck, and asks whether work lies about. */
void
procs_compensate(int stuck)
{
    bool lies = false;
    LOCK_SCHED();
    if (procs.nstuck != stuck) {
        procs.nstuck = stuck;
        set_limit();
    }
    for (M *m = sched.ms; m != NULL; m = m->next) {
        lies = lies || (m->proc >= 0 && nfresh(m) > 0);
    }
    UNLOCK_SCHED();
    if (lies && atomic_load(&procs_helpers) > 0 && !atomic_load(&somebody_spins)) {
        bring_one();
    }
}

/* ---- taking others' work --------------------------------------------------------------------- */

static inline bool
may_take(M *m, M *from)
{
    return from != m && nfresh(from) > 0 && from->proc >= 0;
}

/* Whether something in v's queue has waited for long enough.  sched.mu is held. */
static bool
has_waited(M *v, int64_t now)
{
    uint32_t head = atomic_load_explicit(&v->fresh_turn, memory_order_relaxed);
    if (v->marked == 0 || (int32_t)(head - v->mark_turn) >= 0) {
        uint32_t next = atomic_load_explicit(&v->turn, memory_order_relaxed);
        v->marked = now;
        v->mark_turn = (int32_t)(head - next) < 0 ? next : head + 1; /* see fresh_move() */
        return false;
    }
    return now - v->marked >= STEAL_AFTER;
}

typedef enum { FOUND_NOTHING, FOUND_YOUNG, FOUND_SOME } Found;

/* *victim: whose queue to take from. */
static Found
look_around(M *m, int64_t now, M **victim)
{
    Found found = FOUND_NOTHING;
    LOCK_SCHED();
    for (M *v = sched.ms; v != NULL && found != FOUND_SOME; v = v->next) {
        if (may_take(m, v)) {
            found = has_waited(v, now) ? FOUND_SOME : FOUND_YOUNG;
            *victim = v;
        }
        else if (v != m) {
            v->marked = 0;
        }
    }
    UNLOCK_SCHED();
    return found;
}

/* Take half of what v has; v may have gone.  By m's thread. */
static uint32_t
steal(M *m, M *v)
{
    uint32_t n = 0;
    LOCK_SCHED();
    M *known = sched.ms;
    while (known != NULL && known != v) {
        known = known->next;
    }
    if (known != NULL) {
        lock_both(m, v);
        uint32_t half = (nfresh(v) + 1) / 2;
        for (n = 0; n < half && n < STEAL_MOST; n++) {
            fresh_move(v, m);
        }
        atomic_store_explicit(&m->turn, m->turn + 1, memory_order_relaxed);
        UNLOCK(&m->mu);
        UNLOCK(&v->mu);
        v->marked = 0;
    }
    UNLOCK_SCHED();
    atomic_fetch_add_explicit(&sched.nsteals, n, memory_order_relaxed);
    return n;
}

/* As in Go: not more than half as many as work are to look for some.  Who has got
 * something, and just comes back from that, works again. */
static bool
begin_spinning(M *self)
{
    int works = 0, spin = 0;
    bool lies = false;
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        lies = lies || may_take(self, m);
        if (m->proc >= 0 && m != self) {
            bool has_work = atomic_load(&m->inbox) != NULL; /* though it may not be awake yet */
            spin += m->spins && !has_work;
            works += has_work || !(m->spins || m->resting);
        }
    }
    bool may = procs.limit > 1 && !procs.stop && (lies || 2 * spin < works);
    self->spins = may;
    procs.nspinning += may;
    atomic_store(&somebody_spins, procs.nspinning > 0);
    UNLOCK_SCHED();
    return may;
}

static void
end_spinning(M *self, bool useless)
{
    LOCK_SCHED();
    self->spins = false;
    procs.nspinning--;
    atomic_store(&somebody_spins, procs.nspinning > 0);
    if (!useless) {
        procs.gap = GAP_LEAST;
    }
    else if (procs.gap < GAP_MOST) {
        procs.gap *= 2;
    }
    UNLOCK_SCHED();
}

/* Without a thread state: until the inbox has something, a victim is found, or
 * it is no use to wait on. */
static Found
spin(M *m, int64_t ns, M **victim)
{
    int64_t began = nanotime(), now = began;
    Found found;
    do {
        found = look_around(m, now, victim);
        for (int i = 0; i < 32 && found != FOUND_SOME; i++) {
            if (atomic_load_explicit(&m->inbox, memory_order_relaxed) != NULL ||
                atomic_load_explicit(&m->stop, memory_order_relaxed)) {
                *victim = NULL;
                return FOUND_SOME;
            }
        }
        now = nanotime();
    } while (found != FOUND_SOME && now - began < ns &&
             now - began < (found == FOUND_YOUNG ? SPIN_MOST : SPIN));
    return found;
}

#define ANSWER_LOOKS 1000 /* some 0.5 us */

/* The answer of a goroutine that runs on another M may come within a moment, in which
 * leaving the interpreter does not pay.  (Without PAUSE: a row of them goes to the
 * hypervisor of a virtual machine, and an item takes 0.9 us for 0.35.) */
static inline bool
answer_comes(M *m)
{
    for (int i = 0; i < ANSWER_LOOKS; i++) {
        if (atomic_load_explicit(&m->inbox, memory_order_relaxed) != NULL) {
            return true;
        }
        if (atomic_load_explicit(&awake, memory_order_relaxed) <= 1) {
            return false;
        }
    }
    return false;
}

/* Before m sleeps for at most ns.  True: look again, there may be something. */
bool
procs_find_work(M *m, int64_t ns)
{
    if (answer_comes(m)) {
        return true;
    }
    if (procs.limit <= 1 || atomic_load(&m->surplus) || m->nlocked > 0 || !begin_spinning(m)) {
        return false;
    }
    M *victim = NULL;
    PyThreadState *ts = PyEval_SaveThread();
    Found found = spin(m, ns, &victim);
    PyEval_RestoreThread(ts);
    uint32_t n = found == FOUND_SOME && victim != NULL ? steal(m, victim) : 0;
    end_spinning(m, found != FOUND_SOME);
    if (n > 1 && atomic_load(&procs_helpers) > 0) {
        bring_one();
    }
    return found == FOUND_SOME;
}

/* ---- the process -------------------------------------------------------------------------------- */

static void
until_ended(int64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ns;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (procs.nstarted > 0 && pthread_cond_timedwait(&procs.ended, &sched.mu, &until) == 0) {
    }
}

#define LAST_TURN ((int64_t)100 * 1000000)

/* At exit: end the procs.  One that is in a C call is left to the system, as
 * CPython leaves its daemon threads. */
void
procs_stop(void)
{
    PyThreadState *ts = PyEval_SaveThread();
    LOCK_SCHED();
    procs.stop = true;
    recount();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m->proc > 0) {
            atomic_store(&m->stop, true);
            m_rouse(m);
            atomic_store(&m->watch.may_leave, true);
            call_soon(m->ts, false, sysmon_poked);
        }
    }
    until_ended(LAST_TURN);
    UNLOCK_SCHED();
    PyEval_RestoreThread(ts);
}

/* The child has the thread that forked, and its M. */
void
procs_after_fork(void)
{
    free_stop_lock(PyInterpreterState_Get());
    pthread_cond_init(&procs.ended, NULL);
    procs.nstarted = procs.nresting = procs.nspinning = 0;
    atomic_store(&somebody_spins, false);
    atomic_store(&next_wake, 0);
    procs.gap = GAP_LEAST;
    procs.nstuck = procs.nlocked = 0;
    set_limit();
}

#else

void
procs_stop(void)
{
}

void
procs_after_fork(void)
{
}

#endif

/* A goroutine of m keeps m's thread for itself, or does so no more: another M starts
 * what this one does not. */
void
procs_lock(M *m, int n)
{
    bool was = m->nlocked > 0;
    m->nlocked += n;
#ifdef Py_GIL_DISABLED
    bool is = m->nlocked > 0;
    if (m->proc >= 0 && is != was) {
        LOCK_SCHED();
        procs.nlocked += is ? 1 : -1;
        set_limit();
        UNLOCK_SCHED();
        if (nfresh(m) > 0) {
            bring_one();
        }
    }
#else
    (void)was;
#endif
}

/* ---- settings and figures ------------------------------------------------------------------------ */

/* The number before; n 0 changes nothing. */
int
procs_set(int n)
{
    if (n == 0) {
        return procs.max;
    }
    LOCK_SCHED();
    int old = procs.max;
    procs.max = n;
#ifdef Py_GIL_DISABLED
    set_limit();
#endif
    UNLOCK_SCHED();
    return old;
}

/* Whether there are procs to take work from one that is stuck. */
bool
procs_shared(void)
{
#ifdef Py_GIL_DISABLED
    return procs.nstarted > 0;
#else
    return false;
#endif
}

int
procs_spinning(void)
{
#ifdef Py_GIL_DISABLED
    return procs.nspinning;
#else
    return 0;
#endif
}

/* Roughly, from another thread: what can run on m. */
int
queue_length(M *m)
{
    uint32_t n = 0;
#ifdef Py_GIL_DISABLED
    n = nfresh(m);
#endif
    return (int)(n + *(volatile uint32_t *)&m->runq.n + *(volatile uint32_t *)&m->hogs.n);
}

/* ---- for Python --------------------------------------------------------------------------------- */

static PyObject *
rt_gomaxprocs(PyObject *mod, PyObject *arg)
{
    (void)mod;
    long n = PyLong_AsLong(arg);
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromLong(procs_set(n < 0 ? 0 : n > PROCS_MOST ? PROCS_MOST : (int)n));
}

/* Goroutines never move, so all that is left to do is to start no others here. */
static PyObject *
rt_lock_os_thread(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    G *g = current_g(m);
    if (g->locks == LOCKS_MOST) {
        return PyErr_Format(PyExc_RuntimeError, "lock_os_thread: %R called it %d times", g,
                            LOCKS_MOST);
    }
    if (g->locks++ == 0) {
        procs_lock(m, 1);
    }
    Py_RETURN_NONE;
}

static PyObject *
rt_unlock_os_thread(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    G *g = current_g(m);
    if (g->locks > 0) { /* in Go too nothing happens if it is not locked */
        if (--g->locks == 0) {
            procs_lock(m, -1);
        }
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_gomaxprocs", rt_gomaxprocs, METH_O, PyDoc_STR("_gomaxprocs(n): the number before.")},
    {"lock_os_thread", rt_lock_os_thread, METH_NOARGS,
     PyDoc_STR("lock_os_thread()\n--\n\n"
               "Have no other goroutine be started on this goroutine's thread.\n\n"
               "A goroutine that has started stays on its thread anyway, and those that have\n"
               "started here before go on. It holds until unlock_os_thread was called as often,\n"
               "or the goroutine ends. The thread does not count for GOMAXPROCS meanwhile. With a\n"
               "GIL one thread runs all goroutines, and it changes nothing. Go:\n"
               "runtime.LockOSThread. Raises RuntimeError at the 64th lock.")},
    {"unlock_os_thread", rt_unlock_os_thread, METH_NOARGS,
     PyDoc_STR("unlock_os_thread()\n--\n\n"
               "Undo one lock_os_thread() of this goroutine; without one nothing happens.")},
    {NULL, NULL, 0, NULL},
};

int
procs_add_functions(PyObject *mod)
{
#ifdef Py_GIL_DISABLED
    procs_after_fork();
#endif
    return PyModule_AddFunctions(mod, functions);
}
