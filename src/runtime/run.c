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

/* Of the goroutines of `run` (NULL: all) on m: unstarted ones never run,
 * started ones get GoroutineExit. */
static void
end_goroutines(M *m, Run *run)
{
    GQueue keep = {NULL, NULL};
    G *g, *discard = NULL;
    inbox_drain(m);
    while ((g = runq_get(&m->runq)) != NULL) {
        if (!g->started && !g->system && (run == NULL || g->run == run)) {
            g->schedlink = discard;
            discard = g;
        }
        else {
            runq_put(&keep, g);
        }
    }
    m->runq = keep;
    while ((g = discard) != NULL) {
        discard = g->schedlink;
        g_discard(m, g);
    }
    for (g = m->allgs; g != NULL; g = g->allnext) {
        if (g->exiting || !g->started || g->system || (run != NULL && g->run != run)) {
            continue;
        }
        g->exiting = true; /* raise_pending makes it a GoroutineExit */
        if (!g->insists && g_claim(g, WAKE_EXCEPTION)) {
            goready(g);
        }
    }
}

static G *
first_to_end(M *m, Run *run)
{
    G *g = m->allgs;
    while (g != NULL && (g->system || (run != NULL && g->run != run))) {
        g = g->allnext;
    }
    return g;
}

/* Wait until all of run's goroutines have ended.  A Panic of one of them is
 * remembered, what else is raised here (Ctrl-C, Deadlock) ends the waiting. */
static int
wait_for_each_end(M *m, Run *run)
{
    PyObject *panic = NULL;
    G *g;
    while ((g = first_to_end(m, run)) != NULL) {
        if (!g->started || !g->exiting) {
            if (run == NULL) {
                hand_over_unstarted(m);
            }
            end_goroutines(m, run);
        }
        else if (join(m, g, -1, WAIT_RUN) < 0) {
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
