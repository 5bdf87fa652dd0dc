/* SPDX-License-Identifier: MIT
 *
 * time.c: the clock, the timer heap of each M, sleep, and times from Python.
 *
 * A Timer belongs to the M that started it, and fires in that M's thread.  A
 * goroutine stops the timer of its own wait; timers of Timer objects may be
 * stopped by any thread, by pointer and id, since the memory of a fired Timer
 * is used again for the next.  Locks: Timers.mu guards a heap with all its
 * Timers; it is a leaf, and not held while a timer fires.
 *
 * Stopping marks a Timer and leaves it in the heap (as Go does): what is
 * stopped mostly was far in the future, and taking it out would need a back
 * index in each, written at every sift.  When a quarter of a heap is stopped
 * timers it is swept.
 *
 * Slack.  Waking up for each of many timers that are due at nearly the same
 * time costs far more than running them, so a timer may fire late by a
 * thousandth of its length, a millisecond at the most (Go's netpoller rounds
 * to that; Linux' poll allows a thousandth).  The heap is ordered by the latest
 * time, which is what an idle thread sleeps until; a timer whose time has come
 * is fired whenever the thread looks.
 */
#include "runtime.h"

#include <math.h>
#include <time.h>

int64_t
nanotime(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* ---- the clock that timers go by ------------------------------------------------- */

/* The system's, unless a test has stopped it (goroutines.testing.fake_clock). */
static _Atomic(bool) frozen;
static _Atomic(int64_t) frozen_at;

int64_t
clock_now(void)
{
    return UNLIKELY(atomic_load_explicit(&frozen, memory_order_relaxed)) ? atomic_load(&frozen_at)
                                                                         : nanotime();
}

/* Let the timers of m, armed by the stopped clock, keep what they had left. */
static void
shift_timers(M *m, int64_t ns)
{
    Timers *ts = &m->timers;
    LOCK(&ts->mu);
    for (Py_ssize_t i = 0; i < ts->n; i++) {
        TimerSlot *s = &ts->heap[i];
        s->when -= s->when == FOREVER ? 0 : ns;
        s->t->when -= s->t->when == FOREVER ? 0 : ns;
    }
    UNLOCK(&ts->mu);
}

/* False: it is frozen (or runs) already. */
bool
clock_freeze(bool on)
{
    if (on == atomic_load(&frozen)) {
        return false;
    }
    int64_t now = nanotime();
    if (on) {
        atomic_store(&frozen_at, now);
    }
    atomic_store(&frozen, on);
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL && !on; m = m->next) {
        shift_timers(m, atomic_load(&frozen_at) - now);
        m_rouse(m);
    }
    UNLOCK_SCHED();
    return true;
}

bool
clock_is_frozen(void)
{
    return atomic_load_explicit(&frozen, memory_order_relaxed);
}

/* With nothing left to run in the whole process: on to the next timer of any
 * thread, which is roused for it. */
void
clock_jump(M *self)
{
    M *first = NULL;
    int64_t when = FOREVER;
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        int64_t t = timers_next(m);
        if (t < when) {
            when = t;
            first = m;
        }
    }
    if (first != NULL && when > atomic_load(&frozen_at)) {
        atomic_store(&frozen_at, when);
    }
    if (first != self) {
        m_rouse(first);
    }
    UNLOCK_SCHED();
}

/* ---- the heap -------------------------------------------------------------------- */

static void
sift_up(TimerSlot *h, Py_ssize_t i)
{
    TimerSlot s = h[i];
    while (i > 0) {
        Py_ssize_t parent = (i - 1) / 4;
        if (h[parent].when <= s.when) {
            break;
        }
        h[i] = h[parent];
        i = parent;
    }
    h[i] = s;
}

static void
sift_down(TimerSlot *h, Py_ssize_t n, Py_ssize_t i)
{
    TimerSlot s = h[i];
    for (;;) {
        Py_ssize_t child = 4 * i + 1, least = child;
        if (child >= n) {
            break;
        }
        Py_ssize_t end = child + 4 < n ? child + 4 : n;
        for (Py_ssize_t k = child + 1; k < end; k++) {
            if (h[k].when < h[least].when) {
                least = k;
            }
        }
        if (h[least].when >= s.when) {
            break;
        }
        h[i] = h[least];
        i = least;
    }
    h[i] = s;
}

static void
heap_remove_first(Timers *ts)
{
    INVARIANT(ts->n > 0);
    ts->heap[0] = ts->heap[--ts->n];
    if (ts->n > 0) {
        sift_down(ts->heap, ts->n, 0);
    }
}

#define MAX_SLACK 1000000

static void
timer_free(Timers *ts, Timer *t)
{
    t->fire = NULL;
    t->id = 0;
    t->next_free = ts->free;
    ts->free = t;
}

/* Throw the stopped timers out and make the rest a heap again. */
static void
heap_sweep(Timers *ts)
{
    Py_ssize_t kept = 0;
    for (Py_ssize_t i = 0; i < ts->n; i++) {
        if (ts->heap[i].t->fire == NULL) {
            timer_free(ts, ts->heap[i].t);
        }
        else {
            ts->heap[kept++] = ts->heap[i];
        }
    }
    ts->n = kept;
    ts->stopped = 0;
    for (Py_ssize_t i = (kept - 2) / 4; i >= 0 && kept > 1; i--) {
        sift_down(ts->heap, kept, i);
    }
}

static void
heap_push(Timers *ts, TimerSlot slot)
{
    if (ts->n == ts->cap) {
        Py_ssize_t cap = ts->cap ? ts->cap * 2 : 16;
        TimerSlot *heap = realloc(ts->heap, (size_t)cap * sizeof(TimerSlot));
        if (heap == NULL) {
            throw_("out of memory for the timer heap");
        }
        ts->heap = heap;
        ts->cap = cap;
    }
    ts->heap[ts->n] = slot;
    sift_up(ts->heap, ts->n++);
}

/* Call fire(m, arg) `ns` nanoseconds from now, in m's thread. */
Timer *
timer_start(M *m, int64_t ns, void (*fire)(M *, void *), void *arg)
{
    Timers *ts = &m->timers;
    int64_t now = clock_now();
    int64_t when = ns > FOREVER - now ? FOREVER : now + ns;
    int64_t slack = ns / 1024 < MAX_SLACK ? ns / 1024 : MAX_SLACK;
    LOCK(&ts->mu);
    Timer *t = ts->free;
    if (t != NULL) {
        ts->free = t->next_free;
    }
    else if ((t = malloc(sizeof(Timer))) == NULL) {
        throw_("out of memory for a timer");
    }
    *t = (Timer){.when = when, .fire = fire, .arg = arg, .id = ++ts->last_id};
    heap_push(ts, (TimerSlot){when > FOREVER - slack ? FOREVER : when + slack, t});
    UNLOCK(&ts->mu);
    COUNT(&sched.ntimers, 1);
    return t;
}

/* With ts->mu held. */
static void
mark_stopped(Timers *ts, Timer *t)
{
    t->fire = NULL;
    t->id = 0;
    COUNT(&sched.ntimers, -1);
    if (++ts->stopped > 64 && ts->stopped > ts->n / 4) {
        heap_sweep(ts);
    }
}

/* Only for a timer of m that has not fired, in m's thread; `t` is gone afterwards. */
void
timer_stop(M *m, Timer *t)
{
    Timers *ts = &m->timers;
    LOCK(&ts->mu);
    mark_stopped(ts, t);
    UNLOCK(&ts->mu);
}

/* From any thread: stop t, if it is still the one with this id.  Whether it was. */
bool
timer_cancel(M *m, Timer *t, uint64_t id)
{
    Timers *ts = &m->timers;
    LOCK(&ts->mu);
    bool armed = t->id == id;
    if (armed) {
        mark_stopped(ts, t);
    }
    UNLOCK(&ts->mu);
    return armed;
}

/* When m's next timer may fire; FOREVER: there is none. */
int64_t
timers_next(M *m)
{
    Timers *ts = &m->timers;
    LOCK(&ts->mu);
    while (ts->n > 0 && ts->heap[0].t->fire == NULL) {
        Timer *t = ts->heap[0].t;
        heap_remove_first(ts);
        ts->stopped--;
        timer_free(ts, t);
    }
    int64_t when = FOREVER;
    if (ts->n > 0) {
        when = clock_is_frozen() ? ts->heap[0].t->when : ts->heap[0].when;
    }
    UNLOCK(&ts->mu);
    return when;
}

/* Take the first timer out if it is due at *now, which is read when needed. */
static bool
pop_due(Timers *ts, int64_t *now, Timer *out)
{
    bool due = false;
    LOCK(&ts->mu);
    while (ts->n > 0 && !due) {
        Timer *t = ts->heap[0].t;
        bool stopped = t->fire == NULL;
        if (!stopped && t->when > *now && t->when > (*now = clock_now())) {
            break;
        }
        heap_remove_first(ts);
        ts->stopped -= stopped;
        due = !stopped;
        *out = *t;
        timer_free(ts, t);
    }
    UNLOCK(&ts->mu);
    return due;
}

#define BATCH 16

/* Fire what is due, or drop what was stopped.  True if something fired.  What a
 * timer is for is seldom in the cache, so several are fetched at a time.  No
 * goroutine may go on until they have fired, since it would stop a timer that
 * is no longer its own: so nobody runs, and a destructor cannot park. */
bool
timers_run(M *m)
{
    G *was = m->curg;
    m->curg = NULL;
    bool fired = false;
    int64_t now = 0;
    Timer due[BATCH];
    int n = BATCH;
    while (n == BATCH && m->timers.n > 0) {
        for (n = 0; n < BATCH && pop_due(&m->timers, &now, &due[n]); n++) {
            __builtin_prefetch(due[n].arg);
            __builtin_prefetch((char *)due[n].arg + 64);
            __builtin_prefetch(m->timers.n > 0 ? m->timers.heap[0].t : NULL);
        }
        for (int i = 0; i < n; i++) {
            COUNT(&sched.ntimers, -1);
            due[i].fire(m, due[i].arg);
            fired = true;
        }
    }
    m->curg = was;
    return fired;
}

/* In a forked child: nothing armed in the parent fires here.  The memory is kept
 * for those who still point to their timer. */
void
timers_disown(M *m)
{
    Timers *ts = &m->timers;
    for (Py_ssize_t i = 0; i < ts->n; i++) {
        ts->heap[i].t->id = 0;
    }
    memset(ts, 0, sizeof(*ts));
}

/* When the thread ends: nobody waits for these any more. */
void
timers_forget(M *m)
{
    Timers *ts = &m->timers;
    for (Py_ssize_t i = 0; i < ts->n; i++) {
        if (ts->heap[i].t->fire != NULL) {
            COUNT(&sched.ntimers, -1);
        }
        free(ts->heap[i].t);
    }
    while (ts->free != NULL) {
        Timer *t = ts->free;
        ts->free = t->next_free;
        free(t);
    }
    free(ts->heap);
    memset(ts, 0, sizeof(*ts));
}

/* ---- times from Python -------------------------------------------------------------- */

#define MAX_SECONDS 9.2e9 /* what int64_t nanoseconds hold */

/* float(o), with integers beyond a float's range as infinities. */
static int
seconds_as_double(PyObject *o, const char *what, double *out)
{
    double s = PyFloat_AsDouble(o);
    if (s == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError) && PyLong_Check(o)) {
            PyErr_Clear();
            *out = _PyLong_Sign(o) < 0 ? -1.0 : MAX_SECONDS;
            return 0;
        }
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "%s must be a number of seconds, not %.100s", what,
                         Py_TYPE(o)->tp_name);
        }
        return -1;
    }
    *out = s;
    return 0;
}

int
seconds_arg(PyObject *o, const char *what, int64_t *ns)
{
    double s;
    if (seconds_as_double(o, what, &s) < 0) {
        return -1;
    }
    if (isnan(s)) {
        PyErr_Format(PyExc_ValueError, "%s must be a number of seconds, not NaN", what);
        return -1;
    }
    *ns = s <= 0 ? 0 : s >= MAX_SECONDS ? FOREVER : (int64_t)ceil(s * 1e9);
    return 0;
}

int
timeout_arg(PyObject *o, int64_t *ns)
{
    if (o == NULL || o == Py_None) {
        *ns = -1;
        return 0;
    }
    if (PyFloat_Check(o) || PyLong_Check(o) || PyNumber_Check(o)) {
        return seconds_arg(o, "timeout", ns);
    }
    PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds or None, not %.100s",
                 Py_TYPE(o)->tp_name);
    return -1;
}

/* Park for ns nanoseconds; 0 lets the others run.  -1 with an exception. */
int
sleep_ns(M *m, int64_t ns)
{
    G *g = m->curg;
    if (m->in_gc) {
        return gosched(m); /* a finalizer in the collector cannot be parked */
    }
    if (park_check(m, g) < 0) {
        return -1;
    }
    if (ns == 0) {
        return gosched(m);
    }
    g_will_wait(g);
    Wake how = gopark(m, g, ns, WAIT_SLEEP);
    return how == WAKE_TIMEOUT ? 0 : wake_error(g, how, "sleep", NULL);
}
