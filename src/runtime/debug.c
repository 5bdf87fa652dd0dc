/* SPDX-License-Identifier: MIT
 *
 * debug.c: the deadlock check, throw, and the torture build.
 *
 * The deadlock check runs when a thread is about to sleep.  It is a deadlock
 * when every M sleeps with an empty inbox, no timer is armed, no call is in
 * the blocking pool, no other thread of the process runs Python (it could use
 * a channel at any time), and no signal handler of the user's could wake
 * anybody.  The last needs Python, so a system goroutine asks it, writes the
 * report, and looks at all the rest a second time before it wakes main.
 */
#include "runtime.h"

#include <stdio.h>

/* ---- deadlock ------------------------------------------------------------------------ */

/* Every M but `self` sleeps, and nothing is queued anywhere. */
bool
nothing_runnable(M *self)
{
    bool idle = true;
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL && idle; m = m->next) {
        bool asleep = m == self || atomic_load(&m->sleeping);
        idle = m->is_worker || (asleep && !has_work(m) && atomic_load(&m->inbox) == NULL);
    }
    UNLOCK_SCHED();
    return idle;
}

static bool
nothing_can_wake(M *self)
{
    return atomic_load(&sched.ntimers) == 0 && atomic_load(&sched.nblocking) == 0 &&
           atomic_load(&sched.npollwait) == 0 && sched.maing != NULL &&
           sched.maing->status == G_WAITING && sched.quiet.first == NULL && nothing_runnable(self);
}

static bool
thread_sleeps_in_runtime(PyThreadState *ts)
{
    M *m = sched.ms;
    while (m != NULL && m->ts != ts) {
        m = m->next;
    }
    return m != NULL && atomic_load(&m->sleeping);
}

#ifdef Py_GIL_DISABLED
#define LOCK_THREADS() PyMutex_Lock(&_PyRuntime.interpreters.mutex)
#define UNLOCK_THREADS() PyMutex_Unlock(&_PyRuntime.interpreters.mutex)
#else
#define LOCK_THREADS() ((void)0)
#define UNLOCK_THREADS() ((void)0)
#endif

/* A thread that runs Python and does not wait in the runtime. */
static bool
foreign_thread_lives(M *self)
{
    bool lives = false;
    LOCK_THREADS();
    LOCK_SCHED();
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; ts != NULL && !lives; ts = ts->next) {
        lives = ts != self->ts && !thread_sleeps_in_runtime(ts) && !blocking_is_worker(ts) &&
                !sysmon_is(ts);
    }
    UNLOCK_SCHED();
    UNLOCK_THREADS();
    return lives;
}

/* Asked by an M that is about to sleep.  *held_back: only a foreign thread,
 * whose end nobody will tell us, stands against it. */
bool
deadlock_suspected(M *m, bool *held_back)
{
    if (!nothing_can_wake(m)) {
        return false;
    }
    *held_back = foreign_thread_lives(m);
    return !*held_back;
}

/* The function of the system goroutine that makes sure, and wakes main. */
PyObject *
deadlock_report(PyObject *self, PyObject *unused)
{
    M *m = tls_m;
    bool held_back;
    (void)self;
    (void)unused;
    sched.reporting = true; /* who waits for ever is not ended meanwhile, but told of */
    PyObject *exc = PyObject_CallNoArgs(sched.deadlock);
    sched.reporting = false;
    if (exc == NULL) {
        return NULL;
    }
    if (PyExceptionInstance_Check(exc)) {
        if (deadlock_suspected(m, &held_back)) {
            g_interrupt(sched.maing, exc);
        }
        else { /* another M was just awake: look again when this one is idle */
            m->look_tick = m->tick - 1;
        }
    }
    Py_DECREF(exc);
    Py_RETURN_NONE;
}

/* ---- throw ------------------------------------------------------------------------------ */

static void
dump_one(G *g)
{
    fprintf(stderr, "goroutine %lld [%s%s%s]\n", (long long)g_shown_id(g), g_state_name(g),
            g->status == G_WAITING ? ": " : "",
            g->status == G_WAITING ? wait_reason_name[g->reason] : "");
    PyObject *frames = g_frames(g);
    for (Py_ssize_t i = 0; frames != NULL && i < PyList_GET_SIZE(frames); i++) {
        PyObject *item = PyList_GET_ITEM(frames, i);
        PyCodeObject *code = (PyCodeObject *)PyTuple_GET_ITEM(item, 0);
        fprintf(stderr, "    %s\n        %s:%ld\n", PyUnicode_AsUTF8(code->co_qualname),
                PyUnicode_AsUTF8(code->co_filename), PyLong_AsLong(PyTuple_GET_ITEM(item, 1)));
    }
    Py_XDECREF(frames);
}

void
throw_(const char *what)
{
    static bool dying;
    fprintf(stderr, "fatal error: goroutines: %s\n", what);
    if (!dying && tls_m != NULL && PyGILState_Check()) {
        dying = true; /* the dump may throw too */
        for (M *m = sched.ms; m != NULL; m = m->next) {
            dump_one(m->g0);
            for (G *g = m->allgs; g != NULL; g = g->allnext) {
                dump_one(g);
            }
        }
    }
    fflush(stderr);
    abort();
}

/* ---- torture ------------------------------------------------------------------------------ */

#ifdef GOROUTINES_TORTURE
/* At every chance to park: now and then a collection, now and then a switch.
 * With many objects about a collection is slow: then they take a quarter of the
 * time at most. */
void
torture(M *m)
{
    static _Thread_local bool busy TLS_MODEL;
    static _Thread_local int64_t next_collection TLS_MODEL;
    if (busy || m == NULL || m->curg == NULL || m->in_gc || sched.finalizing) {
        return;
    }
    m->rng = m->rng * 6364136223846793005u + 1442695040888963407u;
    uint32_t dice = (uint32_t)(m->rng >> 33);
    int64_t began = dice % 1024 == 0 ? nanotime() : 0;
    if (began > next_collection) {
        busy = true;
        PyGC_Collect();
        busy = false;
        next_collection = nanotime() + 3 * (nanotime() - began);
    }
    else if (dice % 4 == 1 && has_work(m)) {
        torture_switch(m);
    }
}
#endif
