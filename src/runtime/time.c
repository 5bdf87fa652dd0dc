/* SPDX-License-Identifier: MIT
 *
 * time.c: the clock, the timer heap of each M, sleep, and times from Python.
 *
 * A Timer belongs to the M that started it; only that M's thread touches its
 * heap, so no lock is needed.  Stopping marks a Timer and leaves it in the
 * heap (as Go does): what is stopped mostly was far in the future, and taking
 * it out would need a back index in each, written at every sift.  When a
 * quarter of a heap is stopped timers it is swept.
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
    ts->heap[0] = ts->heap[--ts->n];
    if (ts->n > 0) {
        sift_down(ts->heap, ts->n, 0);
    }
}

#define MAX_SLACK 1000000

static void
timer_free(Timers *ts, Timer *t)
{
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

/* Call fire(m, arg) `ns` nanoseconds from now. */
Timer *
timer_start(M *m, int64_t ns, void (*fire)(M *, void *), void *arg)
{
    Timers *ts = &m->timers;
    int64_t now = nanotime();
    int64_t when = ns > FOREVER - now ? FOREVER : now + ns;
    int64_t slack = ns / 1024 < MAX_SLACK ? ns / 1024 : MAX_SLACK;
    Timer *t = ts->free;
    if (t != NULL) {
        ts->free = t->next_free;
    }
    else if ((t = malloc(sizeof(Timer))) == NULL) {
        throw_("out of memory for a timer");
    }
    int64_t latest = when > FOREVER - slack ? FOREVER : when + slack;
    t->when = when;
    t->fire = fire;
    t->arg = arg;
    if (ts->n == ts->cap) {
        Py_ssize_t cap = ts->cap ? ts->cap * 2 : 16;
        TimerSlot *heap = realloc(ts->heap, (size_t)cap * sizeof(TimerSlot));
        if (heap == NULL) {
            throw_("out of memory for the timer heap");
        }
        ts->heap = heap;
        ts->cap = cap;
    }
    ts->heap[ts->n] = (TimerSlot){latest, t};
    sift_up(ts->heap, ts->n++);
    COUNT(&sched.ntimers, 1);
    return t;
}

/* Only for a timer that has not fired; `t` is gone afterwards. */
void
timer_stop(M *m, Timer *t)
{
    Timers *ts = &m->timers;
    t->fire = NULL;
    ts->stopped++;
    COUNT(&sched.ntimers, -1);
    if (ts->stopped > 64 && ts->stopped > ts->n / 4) {
        heap_sweep(ts);
    }
}

/* Fire what is due, or drop what was stopped.  True if something fired. */
bool
timers_run(M *m)
{
    Timers *ts = &m->timers;
    bool fired = false;
    int64_t now = 0;
    while (ts->n > 0) {
        Timer *t = ts->heap[0].t;
        if (t->fire == NULL) {
            heap_remove_first(ts);
            ts->stopped--;
            timer_free(ts, t);
            continue;
        }
        if (t->when > now) {
            now = nanotime();
            if (t->when > now) {
                break;
            }
        }
        heap_remove_first(ts);
        void (*fire)(M *, void *) = t->fire;
        void *arg = t->arg;
        timer_free(ts, t);
        COUNT(&sched.ntimers, -1);
        fire(m, arg);
        fired = true;
    }
    return fired;
}

/* After a fork, or when the thread ends: nobody waits for these any more. */
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
    if (ns == 0 || m->in_gc) {
        return gosched(m); /* a finalizer in the collector cannot be parked */
    }
    G *g = m->curg;
    if (park_check(m, g) < 0) {
        return -1;
    }
    g_will_wait(g);
    if (gopark(m, g, ns, WAIT_SLEEP) == WAKE_EXCEPTION) {
        raise_pending(g);
        return -1;
    }
    return 0;
}
