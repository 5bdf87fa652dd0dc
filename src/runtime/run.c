/* SPDX-License-Identifier: MIT
 *
 * run.c: run(), and the ending of goroutines that it shares with thread ends.
 *
 * A goroutine belongs to the Run of who started it.  When a run is over, its
 * goroutines that never began are dropped, the others are woken with
 * GoroutineExit until all have ended; their cleanup may park.  The end of a
 * thread does the same to all of its goroutines, but hands those that never
 * began to the main thread.
 */
#include "runtime.h"

/* The Ms that goroutines of `run` (NULL: only this thread's own) may be on: call
 * with NULL first.  Without a GIL any, and the caller holds sched.mu. */
static M *
next_place(M *m, Run *run, M *last)
{
#ifdef Py_GIL_DISABLED
    if (run != NULL) {
        return last == NULL ? sched.ms : last->next;
    }
#endif
    (void)run;
    return last == NULL ? m : NULL;
}

static inline bool
belongs(G *g, Run *run)
{
    return !g->system && (run == NULL || g->run == run);
}

/* Drop those that have not started: they never run. */
static void
discard_unstarted(M *m, Run *run)
{
    GQueue keep = {0};
    G *g, *discard = NULL;
    inbox_drain(m);
    while ((g = runq_get(&m->runq)) != NULL) {
        if (!g->started && belongs(g, run)) {
            g->schedlink = discard;
            discard = g;
        }
        else {
            runq_put(&keep, g);
        }
    }
    m->runq = keep;
#ifdef Py_GIL_DISABLED
    LOCK_SCHED();
    for (M *at = NULL; (at = next_place(m, run, at)) != NULL;) {
        while ((g = fresh_take(at, run)) != NULL) {
            g->schedlink = discard;
            discard = g;
        }
    }
    UNLOCK_SCHED();
#endif
    while ((g = discard) != NULL) {
        discard = g->schedlink;
        g_discard(g->m, g);
    }
}

/* Of the goroutines of `run` (NULL: all on m): unstarted ones never run, started
 * ones get GoroutineExit. */
static void
end_goroutines(M *m, Run *run)
{
    discard_unstarted(m, run);
    LOCK_SCHED();
    for (M *at = NULL; (at = next_place(m, run, at)) != NULL;) {
        LOCK(&at->mu);
        for (G *g = at->allgs; g != NULL; g = g->allnext) {
            if (g->exiting || !g->started || !belongs(g, run)) {
                continue;
            }
            g->exiting = true; /* raise_pending makes it a GoroutineExit */
            if (!g->insists && g_claim(g, WAKE_EXCEPTION)) {
                goready(g);
            }
        }
        UNLOCK(&at->mu);
    }
    UNLOCK_SCHED();
}

/* A new reference to one that is not dead, or NULL. */
static G *
first_to_end(M *m, Run *run)
{
    G *found = NULL;
    LOCK_SCHED();
    for (M *at = NULL; found == NULL && (at = next_place(m, run, at)) != NULL;) {
        LOCK(&at->mu);
        G *g = at->allgs;
        while (g != NULL && !belongs(g, run)) {
            g = g->allnext;
        }
        found = (G *)Py_XNewRef((PyObject *)g);
        UNLOCK(&at->mu);
    }
    UNLOCK_SCHED();
    return found;
}

#define LOOK_AGAIN ((int64_t)1000 * 1000)

/* Have g end, and wait for that.  -1 with what is raised here meanwhile. */
static int
see_it_end(M *m, G *g, Run *run)
{
    if (g->started && g->exiting) {
        return join(m, g, -1, WAIT_RUN);
    }
    if (run == NULL) {
        hand_over_unstarted(m);
    }
    end_goroutines(m, run);
    if (!g->exiting && g->status != G_DEAD && run != NULL) {
        return sleep_ns(m, LOOK_AGAIN); /* it is just coming to another thread */
    }
    return 0;
}

/* Wait until all of run's goroutines have ended.  A Panic of one of them is
 * remembered, what else is raised here (Ctrl-C, Deadlock) ends the waiting. */
static int
wait_for_each_end(M *m, Run *run)
{
    PyObject *panic = NULL;
    G *g;
    while ((g = first_to_end(m, run)) != NULL) {
        int r = see_it_end(m, g, run);
        Py_DECREF(g);
        if (r < 0) {
            if (!PyErr_ExceptionMatches(sched.panic)) {
                break;
            }
            Py_XSETREF(panic, take_raised());
        }
    }
    if (PyErr_Occurred()) {
        Py_XDECREF(panic);
        return -1;
    }
    if (panic != NULL) {
        set_raised(panic);
        return -1;
    }
    return 0;
}

/* A context.scope around it does not cut it short. */
int
wait_for_end(M *m, Run *run)
{
    G *g = m->curg;
    bool was = g_insist(g, true);
    int r = wait_for_each_end(m, run);
    g_insist(g, was);
    return r;
}

PyObject *
run_main(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    G *g = m->curg;
    if (g == NULL || !g->thread_main) {
        PyErr_SetString(PyExc_RuntimeError, "run() cannot be called from a goroutine: call it in "
                                            "the main goroutine or in a plain thread");
        return NULL;
    }
    if (g->run != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "run() is already running in this thread: calls of "
                                            "run() cannot be nested");
        return NULL;
    }
    Run *run = calloc(1, sizeof(Run));
    if (run == NULL) {
        return PyErr_NoMemory();
    }
    run->refs = 1;
    run->main = g;
    g->run = run;
    PyObject *result = PyObject_Vectorcall(fn, args, (size_t)nargs, kwnames);
    PyObject *exc = result == NULL ? take_raised() : NULL;
    if (wait_for_end(m, run) < 0) {
        Py_CLEAR(result);
        if (exc != NULL) {
            PyObject *later = take_raised();
            PyException_SetContext(later, exc); /* steals */
            exc = later;
        }
        else {
            exc = take_raised();
        }
    }
    run->main = NULL;
    g->run = NULL;
    run_release(run);
    if (exc == NULL && g->pending != NULL) {
        Py_CLEAR(result);
        raise_pending(g);
    }
    else if (exc != NULL) {
        set_raised(exc);
    }
    return result;
}
