/* SPDX-License-Identifier: MIT
 *
 * sysmon.c: the thread that watches the others (Go's sysmon).
 *
 * Each TURN it looks at every M.  An M that still runs the goroutine that it ran
 * a turn before is poked: CPython is asked to call sysmon_poked in that thread
 * between two bytecodes.  There the goroutine lets others run, if some wait and
 * preemption is on.  One that does not answer is in a C call: then the watchdog
 * names it, once, and (without a GIL) a further M may start its goroutines.
 *
 * CPython's means for this are its pending calls (call_soon in compat.h), which
 * run where signal handlers do, but never inside a C call.  In 3.11, which has them
 * once for the process and not again while one is amid, a signal stands in,
 * of which only Python knows and which only its main thread serves.
 *
 * Rejected: sys.monitoring.  Without a GIL each arming stops all threads, and so
 * waits for the longest C call of any; it needs one of six ids that tools share,
 * and the code of those who hog is instrumented meanwhile.
 *
 * Lock rules: it has no thread state but while it reports, and touches no object.
 * It holds sched.mu while it looks at Ms; what it reads of them are single words.
 * It sleeps for good while all Ms do; sysmon.mu guards `asleep`, `runs`, `stop`.
 */
#include "runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#ifdef Py_GIL_DISABLED
#define WITH_GIL false
#else
#define WITH_GIL true
#endif

#define TURN ((int64_t)10 * 1000000)
#define LONG_TURN ((int64_t)50 * 1000000) /* when nothing changes for a while */
#define LONG_AFTER 100

static struct {
    pthread_mutex_t mu;
    pthread_cond_t change;
    pthread_t thread;
    bool runs, stop;
    _Atomic(bool) preempt;
    _Atomic(int64_t) watch; /* ns of the watchdog, 0: it is off */
    _Atomic(int64_t) trace; /* ns from line to line of schedtrace, 0: none */
    _Atomic(PyThreadState *) ts; /* its own, while it reports */
    int64_t began, looked, traced;
    int signum; /* 3.11 */
} sysmon = {.watch = 100 * 1000000};

_Atomic(bool) sysmon_asleep; /* who wakes must rouse it */

/* ---- its own sleep -------------------------------------------------------------------- */

/* Let a turn go by.  False: stop. */
static bool
nap(int64_t ns)
{
    struct timespec until;
#ifdef __APPLE__
    clock_gettime(CLOCK_REALTIME, &until);
#else
    clock_gettime(CLOCK_MONOTONIC, &until);
#endif
    until.tv_nsec += ns;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&sysmon.mu);
    while (!sysmon.stop && pthread_cond_timedwait(&sysmon.change, &sysmon.mu, &until) == 0) {
    }
    bool go_on = !sysmon.stop;
    pthread_mutex_unlock(&sysmon.mu);
    return go_on;
}

/* A goroutine may run on m: it is no worker, and no thread of the program's own code. */
static inline bool
is_busy(M *m)
{
    return !m->is_worker && !atomic_load(&m->sleeping) &&
           (m->proc >= 0 || *(G *volatile *)&m->curg != m->g0);
}

static bool
all_sleep(void)
{
    bool busy = false;
    LOCK_MS();
    for (M *m = sched.ms; m != NULL && !busy; m = m->next) {
        busy = is_busy(m);
    }
    UNLOCK_MS();
    return !busy;
}

/* Until an M works again.  False: stop. */
static bool
sleep_while_idle(void)
{
    pthread_mutex_lock(&sysmon.mu);
    atomic_store(&sysmon_asleep, true);
    while (atomic_load(&sysmon_asleep) && !sysmon.stop && all_sleep()) {
        pthread_cond_wait(&sysmon.change, &sysmon.mu);
    }
    atomic_store(&sysmon_asleep, false);
    bool go_on = !sysmon.stop;
    pthread_mutex_unlock(&sysmon.mu);
    return go_on;
}

/* Somebody has something to do again. */
void
sysmon_rouse(void)
{
    pthread_mutex_lock(&sysmon.mu);
    atomic_store(&sysmon_asleep, false);
    pthread_cond_signal(&sysmon.change);
    pthread_mutex_unlock(&sysmon.mu);
}

/* Nanoseconds, or 0: the watchdog is off. */
static inline int64_t
watch_limit(void)
{
    return atomic_load(&sysmon.preempt) ? atomic_load(&sysmon.watch) : 0;
}

/* ---- a poke ------------------------------------------------------------------------------ */

static void report(G *g, int64_t ns);

/* Threads take their calls from one queue, and who does that first takes the others'
 * notice that there are any; it is given back before this thread goes on elsewhere,
 * and leaves the others' calls in the queue. */
static void
notify_others(M *self)
{
#ifdef Py_GIL_DISABLED
    LOCK_MS();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m != self && !m->is_main && atomic_load(&m->watch.poked)) {
            call_soon(m->ts, false, sysmon_poked);
        }
    }
    UNLOCK_MS();
#else
    (void)self;
#endif
}

/* In the thread that was poked, between two bytecodes. */
int
sysmon_poked(void *unused)
{
    (void)unused;
    M *m = tls_m;
    if (m == NULL) {
        return 0;
    }
    Watch *w = &m->watch;
    bool poked = atomic_exchange(&w->poked, false), leave = atomic_exchange(&w->may_leave, false);
    if (!poked && !leave) {
        return 0; /* meant for another goroutine, or thread */
    }
    call_soon_is_over(m->ts); /* others are poked before this one is back */
    int64_t limit = watch_limit(), stuck = atomic_exchange(&w->stuck, 0);
    atomic_store(&w->since, nanotime());
    bool same = m->curg != NULL && m->nswitch == atomic_load(&w->nswitch);
    if (same && limit > 0 && stuck >= limit && !atomic_exchange(&w->told, true)) {
        report(m->curg, stuck);
    }
    if (leave) {
        atomic_store(&w->nswitch, m->nswitch + 1); /* the next one's turn begins now */
        notify_others(m);
        gopreempt(m);
    }
    return 0;
}

static void
poke(M *m)
{
#if PY_VERSION_HEX < 0x030C0000
    trip_signal(sysmon.signum);
#else
    call_soon(m->ts, m->is_main, sysmon_poked);
#endif
}

static inline bool
can_be_poked(M *m)
{
#if PY_VERSION_HEX < 0x030C0000
    return m->is_main && sysmon.signum != 0;
#else
    (void)m;
    return true;
#endif
}

/* ---- a look at each M --------------------------------------------------------------------- */

static inline bool
others_wait(M *m)
{
    return has_work(m) || atomic_load(&m->inbox) != NULL ||
           *(volatile Py_ssize_t *)&m->timers.n > 0 || *(volatile Py_ssize_t *)&m->npollwait > 0;
}

/* m has switched, or sleeps. */
static void
begin_anew(M *m, uint64_t nswitch, int64_t now)
{
    Watch *w = &m->watch;
    atomic_store(&w->may_leave, false);
    atomic_store(&w->poked, false);
    atomic_store(&w->stuck, 0);
    atomic_store(&w->told, false);
    atomic_store(&w->nswitch, nswitch);
    atomic_store(&w->since, now);
}

/* Whether m's goroutine has shown since the last look that it is in no C call. */
static inline bool
is_alive(M *m)
{
#ifdef Py_GIL_DISABLED
    return has_answered(m->ts);
#else
    return !atomic_load(&m->watch.poked);
#endif
}

#ifndef __APPLE__
/* Whether the system would let m's thread run, if there were a processor for it. */
static bool
is_runnable(M *m)
{
    char path[64], text[128] = "";
    snprintf(path, sizeof(path), "/proc/self/task/%lu/stat", m->ts->native_thread_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof(text) - 1);
        text[n > 0 ? n : 0] = 0;
        close(fd);
    }
    const char *state = strrchr(text, ')'); /* the name before it may have anything in it */
    return state != NULL && strncmp(state, ") R", 3) == 0;
}
#endif

/* Whether m's thread could do nothing, since others had the processors. */
static bool
is_starved(M *m)
{
#ifdef __APPLE__
    (void)m;
    return false;
#else
    struct timespec ts;
    clockid_t clock;
    if (pthread_getcpuclockid(m->thread, &clock) != 0 || clock_gettime(clock, &ts) != 0) {
        return false;
    }
    int64_t used = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec, before = m->watch.cpu;
    m->watch.cpu = used;
    return holds_gil(m->ts) && used - before < TURN / 4 && is_runnable(m);
#endif
}

/* Time that it has shown nothing for. */
static void
count_stuck(M *m, int64_t now)
{
    if (is_alive(m)) {
        atomic_store(&m->watch.stuck, 0);
    }
    else if (!m->in_gc && !is_held_up(m->ts) && !is_starved(m)) {
        int64_t ns = now - sysmon.looked; /* if the whole machine stood still, a turn */
        atomic_fetch_add(&m->watch.stuck, ns < 2 * TURN ? ns : 2 * TURN);
    }
}

/* True: it is in a C call for so long that the watchdog is to speak. */
static bool
look_at(M *m, int64_t now, bool *is_stuck)
{
    Watch *w = &m->watch;
    uint64_t nswitch = *(volatile uint64_t *)&m->nswitch;
    if (!is_busy(m) || nswitch != atomic_load(&w->nswitch)) {
        begin_anew(m, nswitch, now);
        return false;
    }
    count_stuck(m, now);
#ifdef Py_GIL_DISABLED
    ping(m->ts);
#endif
    int64_t limit = watch_limit(), stuck = atomic_load(&w->stuck);
    int64_t since = now - atomic_load(&w->since);
    if (atomic_load(&sysmon.preempt) && since >= TURN / 2 && others_wait(m)) {
        atomic_store(&w->may_leave, true);
    }
    bool ask =
        atomic_load(&w->may_leave) || (limit > 0 && (WITH_GIL || stuck > 0) && since >= limit);
    if (ask && can_be_poked(m)) {
        atomic_store(&w->poked, true);
        poke(m);
    }
    *is_stuck = stuck >= TURN;
    return limit > 0 && stuck >= limit && atomic_load(&w->poked) && !atomic_load(&w->told) &&
           !holds_gil(m->ts);
}

/* ---- the watchdog ---------------------------------------------------------------------------- */

/* Tell the Python side.  Called with a thread state. */
static void
report(G *g, int64_t ns)
{
    PyObject *frames = g_frames(g), *r = NULL;
    if (frames != NULL) {
        r = PyObject_CallFunction(sched.report_stuck, "OdN", g, (double)ns * 1e-9, frames);
    }
    if (r == NULL) {
        PyErr_WriteUnraisable((PyObject *)g);
    }
    Py_XDECREF(r);
}

typedef struct {
    M *m;
    G *g; /* a new reference, or NULL: it has gone on */
} Suspect;

static int
take_suspect(PyObject *unused, void *arg)
{
    (void)unused;
    Suspect *s = arg;
    LOCK_MS();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m == s->m && atomic_load(&m->watch.poked) && m->curg != NULL &&
            m->nswitch == atomic_load(&m->watch.nswitch) &&
            !atomic_exchange(&m->watch.told, true)) {
            s->g = (G *)Py_NewRef((PyObject *)m->curg);
        }
    }
    UNLOCK_MS();
    return 0; /* see no other object */
}

/* A goroutine that does not come back from its C call, by who has a thread state
 * for that.  One that holds the GIL meanwhile has come back once we have it, and
 * speaks of itself. */
static void
report_other(M *m, int64_t ns)
{
    Suspect s = {m, NULL};
    PyGILState_STATE gil = PyGILState_Ensure();
    atomic_store(&sysmon.ts, PyThreadState_Get());
#ifdef Py_GIL_DISABLED
    PyUnstable_GC_VisitObjects(take_suspect, &s); /* with all threads stopped */
#else
    take_suspect(NULL, &s);
#endif
    if (s.g != NULL) {
        report(s.g, ns);
        Py_DECREF(s.g);
    }
    if (tls_m != NULL) {
        tls_m->is_worker = true; /* what the report may have started is not for this thread */
    }
    atomic_store(&sysmon.ts, NULL);
    PyGILState_Release(gil);
}

bool
sysmon_is(PyThreadState *ts)
{
    return ts == atomic_load(&sysmon.ts);
}

/* ---- schedtrace --------------------------------------------------------------------------------- */

/* One line, Go's fields first. */
static void
trace(int64_t now)
{
    int threads = 0, idle = 0, all = 0;
    uint64_t parks = 0;
    char queues[512];
    size_t n = 0;
    LOCK_MS();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m->is_worker) {
            continue;
        }
        int queued = queue_length(m);
        threads++;
        idle += atomic_load(&m->sleeping);
        all += queued;
        parks += *(volatile uint64_t *)&m->nparks;
        if (n < sizeof(queues) - 16) {
            n += (size_t)snprintf(queues + n, sizeof(queues) - n, "%s%d", n > 0 ? " " : "", queued);
        }
    }
    int spinning = procs_spinning();
    UNLOCK_MS();
    fprintf(stderr,
            "SCHED %lldms: gomaxprocs=%d idleprocs=%d threads=%d spinningthreads=%d "
            "idlethreads=%d runqueue=%d [%s] goroutines=%lld steals=%llu parks=%llu wakes=%llu "
            "preemptions=%llu collections=%llu\n",
            (long long)((now - sysmon.began) / 1000000), procs_set(0), idle, threads, spinning,
            idle, all, queues, (long long)atomic_load(&sched.ngoroutines),
            (unsigned long long)atomic_load(&sched.nsteals), (unsigned long long)parks,
            (unsigned long long)atomic_load(&sched.nwakes),
            (unsigned long long)atomic_load(&sched.npreempts),
            (unsigned long long)atomic_load(&sched.ncollections));
    fflush(stderr);
    sysmon.traced = now;
}

/* ---- the thread ----------------------------------------------------------------------------------- */

/* Look at all.  True: somebody has done something since the last look. */
static bool
look_at_all(int64_t now)
{
    M *suspect = NULL;
    bool moves = false;
    int stuck = 0;
    LOCK_MS();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        bool is_stuck = false;
        moves = moves || (is_busy(m) && m->nswitch != atomic_load(&m->watch.nswitch));
        if (look_at(m, now, &is_stuck)) {
            suspect = m;
        }
        stuck += is_stuck && m->proc >= 0;
    }
    int64_t since = suspect != NULL ? atomic_load(&suspect->watch.stuck) : 0;
    UNLOCK_MS();
    sysmon.looked = now;
#ifdef Py_GIL_DISABLED
    procs_compensate(stuck);
#endif
    if (suspect != NULL) {
        report_other(suspect, since);
    }
    return moves || suspect != NULL;
}

static int64_t
turn(int quiet)
{
    int64_t ns = quiet < LONG_AFTER ? TURN : LONG_TURN, each = atomic_load(&sysmon.trace);
    return each > 0 && each < ns ? each : ns;
}

static void *
sysmon_main(void *unused)
{
    (void)unused;
    int quiet = 0;
    while (nap(turn(quiet))) {
        int64_t now = nanotime(), each = atomic_load(&sysmon.trace);
        if (each > 0 && now - sysmon.traced >= each) {
            trace(now);
        }
        if (each == 0 && all_sleep() && !sleep_while_idle()) {
            break;
        }
        quiet = look_at_all(nanotime()) ? 0 : quiet + 1;
    }
    return NULL;
}

/* ---- start and stop -------------------------------------------------------------------- */

static void
make_locks(void)
{
    pthread_condattr_t attr;
    pthread_mutex_init(&sysmon.mu, NULL);
    pthread_condattr_init(&attr);
#ifndef __APPLE__
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(&sysmon.change, &attr);
    pthread_condattr_destroy(&attr);
}

static bool
is_needed(void)
{
    return atomic_load(&sysmon.preempt) || atomic_load(&sysmon.trace) > 0 || procs_shared();
}

/* Have it run if there is something to watch.  -1 with RuntimeError. */
int
sysmon_need(void)
{
    if (sysmon.runs || !is_needed() || sched.finalizing) {
        return 0;
    }
    sigset_t old;
    make_locks();
    sysmon.stop = false;
    sysmon.looked = nanotime();
    if (sysmon.began == 0) {
        sysmon.began = sysmon.looked;
    }
    signals_block(&old);
    sysmon.runs = pthread_create(&sysmon.thread, NULL, sysmon_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!sysmon.runs) {
        PyErr_SetString(PyExc_RuntimeError, "cannot start the thread that watches goroutines");
        return -1;
    }
    return 0;
}

/* Without the GIL while it waits: the thread may be reporting. */
void
sysmon_stop(void)
{
    if (!sysmon.runs) {
        return;
    }
    PyThreadState *ts = PyEval_SaveThread();
    pthread_mutex_lock(&sysmon.mu);
    sysmon.stop = true;
    pthread_cond_signal(&sysmon.change);
    pthread_mutex_unlock(&sysmon.mu);
    pthread_join(sysmon.thread, NULL);
    PyEval_RestoreThread(ts);
    sysmon.runs = false;
}

/* The thread is the parent's. */
void
sysmon_after_fork(void)
{
    atomic_store(&sysmon_asleep, false);
    atomic_store(&sysmon.ts, NULL);
    sysmon.runs = false;
    if (sched.main != NULL) {
        begin_anew(sched.main, sched.main->nswitch, nanotime());
    }
    if (sysmon_need() < 0) {
        PyErr_WriteUnraisable(NULL);
    }
}

/* ---- for Python ------------------------------------------------------------------------------------ */

static PyObject *
rt_set_preemption(PyObject *mod, PyObject *args)
{
    int on, signum;
    (void)mod;
    if (!PyArg_ParseTuple(args, "pi:_set_preemption", &on, &signum)) {
        return NULL;
    }
    sysmon.signum = signum;
    bool old = atomic_exchange(&sysmon.preempt, on != 0);
    if (sysmon_need() < 0) {
        return NULL;
    }
    return PyBool_FromLong(old);
}

static PyObject *
rt_set_watchdog(PyObject *mod, PyObject *args)
{
    PyObject *seconds, *tell;
    int64_t ns = 0;
    (void)mod;
    if (!PyArg_ParseTuple(args, "OO:_set_watchdog", &seconds, &tell) ||
        (seconds != Py_None && seconds_arg(seconds, "set_watchdog", &ns) < 0)) {
        return NULL;
    }
    PyObject *was = sched.report_stuck;
    sched.report_stuck = Py_NewRef(tell);
    Py_XDECREF(was);
    int64_t old = atomic_exchange(&sysmon.watch, ns);
    return old > 0 ? PyFloat_FromDouble((double)old * 1e-9) : Py_NewRef(Py_None);
}

static PyObject *
rt_set_schedtrace(PyObject *mod, PyObject *arg)
{
    (void)mod;
    long ms = PyLong_AsLong(arg);
    if (ms == -1 && PyErr_Occurred()) {
        return NULL;
    }
    sysmon.traced = nanotime();
    atomic_store(&sysmon.trace, ms > 0 ? (int64_t)ms * 1000000 : 0);
    if (atomic_load(&sysmon_asleep)) {
        sysmon_rouse();
    }
    if (sysmon_need() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
rt_poked(PyObject *mod, PyObject *args)
{
    (void)mod;
    (void)args;
    sysmon_poked(NULL);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_set_preemption", rt_set_preemption, METH_VARARGS,
     PyDoc_STR("_set_preemption(on, signum): what it was; 3.11 uses the signal.")},
    {"_set_watchdog", rt_set_watchdog, METH_VARARGS,
     PyDoc_STR("_set_watchdog(seconds, report): the seconds before, or None.")},
    {"_set_schedtrace", rt_set_schedtrace, METH_O,
     PyDoc_STR("_set_schedtrace(ms): a line each so many, 0: none.")},
    {"_poked", rt_poked, METH_VARARGS, PyDoc_STR("_poked(signum, frame): 3.11's handler.")},
    {NULL, NULL, 0, NULL},
};

int
sysmon_add_functions(PyObject *mod)
{
    return PyModule_AddFunctions(mod, functions);
}
