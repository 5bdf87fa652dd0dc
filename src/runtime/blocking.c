/* SPDX-License-Identifier: MIT
 *
 * blocking.c: calls that would block their thread, on a pool of threads.
 *
 * A goroutine hands a Job to the pool and parks.  Threads are started while
 * jobs outnumber idle threads, up to a cap, reused, and end after ten idle
 * seconds.  They block all signals, which so reach the main thread.
 *
 * Invariants, with pool.mu held (a leaf lock):
 *   - a Job is in the queue, or being run, or done;
 *   - its goroutine claims are made under pool.mu, so a worker never wakes a
 *     goroutine that has given its Job up and waits for something else;
 *   - who sees the Job last frees it: the goroutine if it is done, the worker
 *     if it was abandoned.
 *
 * When all threads are busy and the cap is reached, calls wait in the queue: the
 * first time a warning says so, and blocking_stats tells for how long.
 *
 * Shutdown: idle threads are told to end and waited for, and threads that are
 * just starting too (CPython dies of a thread that comes to it too late); a
 * thread inside a call is left to the system, as CPython leaves its daemon
 * threads.
 */
#include "runtime.h"

#include <stdio.h>
#include <time.h>

typedef struct Job {
    struct Job *next;
    G *g; /* owned */
    PyObject *fn, *args, *kwnames, *context;
    PyObject *result, *exc;
    bool done, abandoned;
    int64_t since; /* when it was queued */
} Job;

typedef struct Worker {
    struct Worker *next;
    PyThreadState *ts;
} Worker;

static struct {
    pthread_mutex_t mu;
    pthread_cond_t work, ended;
    bool ready, stop, warned;
    Job *head, **tail;
    int nqueued, nidle, nthreads, nstarting, nbusy, max, serial;
    Worker *workers; /* those that have a thread state */
    int64_t ncalls, waited, longest; /* begun calls; nanoseconds in the queue */
} pool = {.mu = PTHREAD_MUTEX_INITIALIZER, .max = 64};

#define IDLE_SECONDS 10

static void
pool_setup(void)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
#ifndef __APPLE__
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&pool.work, &attr);
    pthread_cond_init(&pool.ended, &attr);
    pthread_condattr_destroy(&attr);
    pool.tail = &pool.head;
    pool.ready = true;
}

/* ---- jobs -------------------------------------------------------------------------- */

static void
job_free(Job *j)
{
    Py_XDECREF(j->g);
    Py_XDECREF(j->fn);
    Py_XDECREF(j->args);
    Py_XDECREF(j->kwnames);
    Py_XDECREF(j->context);
    Py_XDECREF(j->result);
    Py_XDECREF(j->exc);
    free(j);
}

static Job *
job_new(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t all = nargs + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    Job *j = calloc(1, sizeof(Job));
    if (j == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    j->g = (G *)Py_NewRef((PyObject *)m->curg);
    j->fn = Py_NewRef(fn);
    j->kwnames = Py_XNewRef(kwnames);
    j->args = PyTuple_New(all);
    j->context = m->ts->context != NULL ? PyContext_Copy(m->ts->context) : PyContext_New();
    if (j->args == NULL || j->context == NULL) {
        job_free(j);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < all; i++) {
        PyTuple_SET_ITEM(j->args, i, Py_NewRef(args[i]));
    }
    return j;
}

static void
job_run(Job *j)
{
    Py_ssize_t nkw = j->kwnames != NULL ? PyTuple_GET_SIZE(j->kwnames) : 0;
    if (PyContext_Enter(j->context) == 0) {
        j->result = PyObject_Vectorcall(j->fn, &PyTuple_GET_ITEM(j->args, 0),
                                        (size_t)(PyTuple_GET_SIZE(j->args) - nkw), j->kwnames);
        PyObject *exc = take_raised();
        if (PyContext_Exit(j->context) < 0) {
            PyErr_WriteUnraisable(j->fn);
        }
        j->exc = exc;
    }
    else {
        j->exc = take_raised();
    }
}

static void
job_finish(Job *j)
{
    G *g = (G *)Py_NewRef((PyObject *)j->g);
    pthread_mutex_lock(&pool.mu);
    bool abandoned = j->abandoned;
    bool claimed = !abandoned && g_claim(g, WAKE_READY);
    j->done = true;
    pool.nbusy--;
    pthread_mutex_unlock(&pool.mu);
    if (claimed) {
        goready(g);
    }
    else if (abandoned) {
        job_free(j);
    }
    atomic_fetch_sub(&sched.nblocking, 1);
    m_rouse(sched.main); /* if it fell asleep in between it must look for a deadlock */
    Py_DECREF(g);
}

/* ---- threads ------------------------------------------------------------------------- */

/* The next job, or NULL: this thread shall end.  Called without the GIL. */
static Job *
next_job(void)
{
    struct timespec until;
#ifdef __APPLE__
    clock_gettime(CLOCK_REALTIME, &until);
#else
    clock_gettime(CLOCK_MONOTONIC, &until);
#endif
    until.tv_sec += IDLE_SECONDS;
    pthread_mutex_lock(&pool.mu);
    pool.nidle++;
    int timed_out = 0;
    while (pool.head == NULL && !pool.stop && !timed_out && pool.nthreads <= pool.max) {
        timed_out = pthread_cond_timedwait(&pool.work, &pool.mu, &until) != 0;
    }
    pool.nidle--;
    Job *j = pool.stop ? NULL : pool.head;
    if (j != NULL) {
        pool.head = j->next;
        int64_t waited = nanotime() - j->since;
        pool.nqueued--;
        pool.nbusy++;
        pool.ncalls++;
        pool.waited += waited;
        pool.longest = waited > pool.longest ? waited : pool.longest;
        if (pool.head == NULL) {
            pool.tail = &pool.head;
        }
    }
    else {
        pool.nthreads--; /* in the same breath: nobody counts on this thread */
    }
    pthread_mutex_unlock(&pool.mu);
    return j;
}

static void
name_thread(int serial)
{
    char name[16];
    snprintf(name, sizeof(name), "go-blocking-%u", (unsigned)serial % 1000);
#ifdef __APPLE__
    pthread_setname_np(name);
#else
    pthread_setname_np(pthread_self(), name);
#endif
}

/* False: the pool stops, and this thread must not come near the interpreter. */
static bool
worker_may_start(int *serial)
{
    pthread_mutex_lock(&pool.mu);
    bool may = !pool.stop;
    *serial = ++pool.serial;
    if (!may) {
        pool.nstarting--;
        pool.nthreads--;
        pthread_cond_broadcast(&pool.ended);
    }
    pthread_mutex_unlock(&pool.mu);
    return may;
}

static void
worker_register(Worker *w)
{
    pthread_mutex_lock(&pool.mu);
    w->next = pool.workers;
    pool.workers = w;
    pool.nstarting--;
    pthread_cond_broadcast(&pool.ended);
    pthread_mutex_unlock(&pool.mu);
}

static void
worker_unregister(Worker *w)
{
    pthread_mutex_lock(&pool.mu);
    Worker **link = &pool.workers;
    while (*link != w) {
        link = &(*link)->next;
    }
    *link = w->next;
    pthread_cond_broadcast(&pool.ended);
    pthread_mutex_unlock(&pool.mu);
}

static void
worker_main(void *unused)
{
    (void)unused;
    int serial;
    if (!worker_may_start(&serial)) {
        return;
    }
    name_thread(serial);
    PyGILState_STATE gil = PyGILState_Ensure();
    Worker me = {NULL, PyThreadState_Get()};
    M *m = getm();
    if (m != NULL) {
        m->is_worker = true;
    }
    PyErr_Clear();
    worker_register(&me);
    for (;;) {
        PyThreadState *ts = PyEval_SaveThread();
        Job *j = next_job();
        PyEval_RestoreThread(ts);
        if (j == NULL) {
            break;
        }
        job_run(j);
        job_finish(j);
    }
    PyGILState_Release(gil); /* clears the thread state, and so ends the M */
    worker_unregister(&me);
}

/* A thread with all signals blocked.  pool.mu is held. */
static bool
start_worker(void)
{
    sigset_t old;
    signals_block(&old);
    bool ok = PyThread_start_new_thread(worker_main, NULL) != PYTHREAD_INVALID_THREAD_ID;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pool.nthreads += ok;
    pool.nstarting += ok;
    return ok;
}

/* ---- the call --------------------------------------------------------------------------- */

/* Will a call that is submitted now wait for a thread, for the first time? */
static bool
begins_to_queue(void)
{
    pthread_mutex_lock(&pool.mu);
    bool first = !pool.warned && pool.nthreads >= pool.max && pool.nqueued >= pool.nidle;
    pool.warned = pool.warned || first;
    pthread_mutex_unlock(&pool.mu);
    return first;
}

static int
warn_that_it_queues(void)
{
    return PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                            "blocking: all %d threads are busy, so calls wait for one now; "
                            "runtime.set_max_threads(n) allows more, runtime.blocking_stats() "
                            "tells how long they wait",
                            pool.max);
}

static int
submit(Job *j)
{
    j->since = nanotime();
    pthread_mutex_lock(&pool.mu);
    if (!pool.ready) {
        pool_setup();
    }
    if (pool.nqueued >= pool.nidle && pool.nthreads < pool.max && !start_worker() &&
        pool.nthreads == 0) {
        pthread_mutex_unlock(&pool.mu);
        PyErr_SetString(PyExc_RuntimeError, "blocking: cannot start a thread for the call");
        return -1;
    }
    g_will_wait(j->g); /* workers claim it under pool.mu */
    *pool.tail = j;
    pool.tail = &j->next;
    pool.nqueued++;
    pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.mu);
    return 0;
}

static bool
unqueue(Job *j)
{
    for (Job **link = &pool.head; *link != NULL; link = &(*link)->next) {
        if (*link == j) {
            *link = j->next;
            if (pool.tail == &j->next) {
                pool.tail = link;
            }
            pool.nqueued--;
            return true;
        }
    }
    return false;
}

/* The goroutine was woken for an exception: the call goes on without it, unless
 * it stands in the queue; for a scope that ends, behind calls that block. */
static void
give_up(Job *j, Wake how)
{
    pthread_mutex_lock(&pool.mu);
    bool mine = j->done;
    bool begins = how == WAKE_SCOPE && pool.nqueued <= pool.nidle + pool.nstarting;
    if (!mine && !begins && unqueue(j)) {
        mine = true;
        atomic_fetch_sub(&sched.nblocking, 1);
    }
    j->abandoned = !mine;
    pthread_mutex_unlock(&pool.mu);
    if (mine) {
        job_free(j);
    }
}

PyObject *
blocking_call(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (m->is_worker || pool.stop) {
        return PyObject_Vectorcall(fn, args, (size_t)nargs, kwnames);
    }
    if (begins_to_queue() && warn_that_it_queues() < 0) { /* Python code, which may wait */
        return NULL;
    }
    G *g = m->curg;
    if (park_check(m, g) < 0) {
        return NULL;
    }
    Job *j = job_new(m, fn, args, nargs, kwnames);
    if (j == NULL) {
        return NULL;
    }
    atomic_fetch_add(&sched.nblocking, 1);
    if (submit(j) < 0) {
        atomic_fetch_sub(&sched.nblocking, 1);
        job_free(j);
        return NULL;
    }
    Wake how = gopark(m, g, -1, WAIT_BLOCKING);
    if (how != WAKE_READY) {
        give_up(j, how);
        wake_error(g, how, "blocking", NULL);
        return NULL;
    }
    PyObject *result = j->result;
    j->result = NULL;
    if (result == NULL) {
        set_raised(j->exc);
        j->exc = NULL;
    }
    job_free(j);
    return result;
}

/* ---- settings and process events ------------------------------------------------------------ */

/* The old cap.  Threads above a lowered cap end when idle. */
int
blocking_set_max(int n)
{
    pthread_mutex_lock(&pool.mu);
    int old = pool.max;
    pool.max = n;
    if (pool.ready) {
        pthread_cond_broadcast(&pool.work);
    }
    pthread_mutex_unlock(&pool.mu);
    return old;
}

/* (threads, idle, queued, cap, calls begun, seconds waited by all, by one at most) */
PyObject *
blocking_stats(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    pthread_mutex_lock(&pool.mu);
    int threads = pool.nthreads, idle = pool.nidle, queued = pool.nqueued, max = pool.max;
    int64_t calls = pool.ncalls, waited = pool.waited, longest = pool.longest;
    pthread_mutex_unlock(&pool.mu);
    return Py_BuildValue("iiiiLdd", threads, idle, queued, max, (long long)calls,
                         (double)waited * 1e-9, (double)longest * 1e-9);
}

bool
blocking_is_worker(PyThreadState *ts)
{
    pthread_mutex_lock(&pool.mu);
    Worker *w = pool.workers;
    while (w != NULL && w->ts != ts) {
        w = w->next;
    }
    pthread_mutex_unlock(&pool.mu);
    return w != NULL;
}

void
blocking_after_fork(void)
{
    int max = pool.max;
    memset(&pool, 0, sizeof(pool));
    pthread_mutex_init(&pool.mu, NULL);
    pool.max = max;
    atomic_store(&sched.nblocking, 0);
}

/* Those that hold no job; pool.mu is held. */
static bool
idle_workers(void)
{
    int n = 0;
    for (Worker *w = pool.workers; w != NULL; w = w->next) {
        n++;
    }
    return n > pool.nbusy;
}

/* End the idle threads.  Called with the GIL, which they need for ending. */
void
blocking_shutdown(void)
{
    PyThreadState *ts = PyEval_SaveThread();
    pthread_mutex_lock(&pool.mu);
    pool.stop = true;
    if (pool.ready) {
        pthread_cond_broadcast(&pool.work);
        while (pool.nstarting > 0 || idle_workers()) {
            pthread_cond_wait(&pool.ended, &pool.mu);
        }
    }
    pthread_mutex_unlock(&pool.mu);
    PyEval_RestoreThread(ts);
}
