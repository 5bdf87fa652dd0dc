/* SPDX-License-Identifier: MIT
 *
 * thread.c: how threads get their M and lose it; fork, start and shutdown.
 *
 * A thread gets its M when it first uses the runtime, the main thread at
 * import.  CPython tells of a thread's end by clearing its thread state's
 * dictionary, in which a capsule waits for that (thread_exit).
 *
 * In a forked child the thread that forked is the only one, and is main.  The
 * other goroutines are dead there: their waiters cannot be claimed any more,
 * and what they hold is never released, since its cleanup is the parent's.
 */
#include "runtime.h"

/* ---- threads ---------------------------------------------------------------------------------- */

static void
thread_capsule_free(PyObject *capsule)
{
    M *m = PyCapsule_GetPointer(capsule, "goroutines.M");
    if (m != NULL && m == tls_m) {
        thread_exit(m);
    }
}

/* Have thread_exit called when CPython clears this thread's state. */
static int
watch_thread_end(M *m)
{
    PyObject *dict = PyThreadState_GetDict();
    PyObject *capsule = PyCapsule_New(m, "goroutines.M", thread_capsule_free);
    if (capsule == NULL) {
        return -1;
    }
    int r = dict == NULL ? 0 : PyDict_SetItemString(dict, "goroutines.M", capsule);
    Py_DECREF(capsule);
    return r;
}

/* Before a thread of ours is started: signals are the main thread's, but for those
 * that a thread's own mistakes cause. */
void
signals_block(sigset_t *old)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(own); i++) {
        sigdelset(&set, own[i]);
    }
    pthread_sigmask(SIG_SETMASK, &set, old);
}

static bool
this_is_main_thread(void)
{
    return PyThread_get_thread_ident() == _PyRuntime.main_thread;
}

static M *
m_alloc(PyThreadState *ts)
{
    M *m = aligned_alloc(CACHE_LINE, sizeof(M));
    if (m == NULL) {
        return NULL;
    }
    memset(m, 0, sizeof(M));
    m->ts = ts;
    m->wakefd = m->pollfd = -1;
    m->look_tick = UINT32_MAX - 1; /* no report yet */
    m->rng = (uint64_t)nanotime() * 0x9E3779B97F4A7C15u | 1;
    m->g0 = (G *)g_type->tp_alloc(g_type, 0);
    if (m->g0 == NULL) {
        free(m);
        return NULL;
    }
    m->proc = -1;
    G *g = m->g0;
    g->m = m;
    g->sg.g = g;
    g->thread_main = g->started = true;
    g->status = G_RUNNING;
    m->vars_now = &m->vars;
    pystate_of_thread(&g->ps, m->vars_now);
    atomic_store(&g->wake, WAKE_READY);
    m->curg = m->loaded = g;
    return m;
}

/* Goroutines begin this far below the place where a thread first used the
 * runtime, so that its own waits seldom have anything to copy. */
#define BASE_MARGIN (8 * 1024)

static void
m_bind(M *m)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    m->base = (char *)((here - BASE_MARGIN) & ~(uintptr_t)63);
    m->thread = pthread_self();
    limits_bind(m);
    tls_m = m;
}

static void
m_link(M *m)
{
    LOCK_MS();
    m->next = sched.ms;
    sched.ms = m;
    UNLOCK_MS();
}

static void
m_make_main(M *m)
{
    m->is_main = true;
    m->proc = 0;
    m->g0->id = 1;
    sched.main = m;
    sched.maing = m->g0;
}

/* The thread state that thread_exit was called for: what CPython clears after
 * that (thread locals) must not bring the M back. */
static _Thread_local uint64_t ended_thread;

/* The M of the calling thread.  NULL with an exception. */
M *
m_create(void)
{
    PyThreadState *ts = PyThreadState_Get();
    if (this_is_main_thread() && sched.main != NULL && sched.main->ts == ts) {
        m_bind(sched.main); /* made at import, by another thread */
        return sched.main;
    }
    if (ended_thread != 0 && ts->id == ended_thread) {
        PyErr_SetString(PyExc_RuntimeError, "cannot use goroutines here: this thread has ended");
        return NULL;
    }
    M *m = m_alloc(ts);
    if (m == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (this_is_main_thread()) {
        m_make_main(m);
    }
    else if (watch_thread_end(m) < 0) {
        Py_DECREF(m->g0);
        free(m);
        return NULL;
    }
    else {
        m->g0->id = COUNT(&sched.next_id, 1);
    }
    m_bind(m);
    m_link(m);
    return m;
}

static void
m_free(M *m)
{
    netpoll_close(m);
    stack_forget(m);
    free(m->scratch);
    timers_forget(m);
    while (m->chunks != NULL) {
        _PyStackChunk *c = m->chunks;
        m->chunks = c->previous;
        free(c);
    }
    tls_m = NULL; /* what is freed below goes to the allocators themselves */
    while (m->freeg != NULL) {
        G *g = m->freeg;
        m->freeg = g->schedlink;
        g_type->tp_free(g);
    }
    for (int i = 0; i < m->narenas; i++) {
        PyObjectArenaAllocator a;
        PyObject_GetArenaAllocator(&a);
        a.free(a.ctx, m->arenas[i], DATA_CHUNK);
    }
    m->g0->m = sched.main;
    Py_DECREF(m->g0);
    free(m);
}

static void
hand_over(G *g)
{
    M *from = g->m, *to = sched.main;
    LOCK(from < to ? &from->mu : &to->mu);
    LOCK(from < to ? &to->mu : &from->mu);
    g_move(g, to);
    UNLOCK(&from->mu);
    UNLOCK(&to->mu);
    inbox_put(to, g);
}

/* Hand what has not started to the main thread. */
void
hand_over_unstarted(M *m)
{
    if (m == sched.main) {
        return;
    }
    inbox_drain(m);
    GQueue keep = {0};
    G *g;
    while ((g = runq_get(&m->runq)) != NULL) {
        if (g->started || sched.main == NULL) {
            runq_put(&keep, g);
        }
        else {
            hand_over(g);
        }
    }
    m->runq = keep;
#ifdef Py_GIL_DISABLED
    if (sched.main != NULL) {
        fresh_hand_over(m);
    }
#endif
}

/* A thread ends: called by CPython with the thread state still usable. */
void
thread_exit(M *m)
{
    if (sched.finalizing || atomic_load(&m->stop)) {
        return; /* what still lives here is left as it is */
    }
    PyObject *raised = take_raised();
    hand_over_unstarted(m);
    m->curg = m->g0;
    if (wait_for_end(m, NULL) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    hand_over_unstarted(m);
    timer_funcs_hand_over(m);
    g_mark_dead(m->g0);
    ended_thread = m->ts->id;
    LOCK_MS();
    M **link = &sched.ms;
    while (*link != m) {
        link = &(*link)->next;
    }
    *link = m->next;
    UNLOCK_MS();
    m_free(m);
    if (raised != NULL) {
        set_raised(raised);
    }
}

/* ---- process ------------------------------------------------------------------------------------ */

/* In a forked child only the caller goes on.  The others' references are kept
 * for ever: their cleanup belongs to the parent. */
void
threads_after_fork(void)
{
    pthread_mutex_init(&sched.mu, NULL);
    M *mine = tls_m;
    G *caller = mine == NULL ? NULL : mine->curg != NULL ? mine->curg : mine->g0;
    for (M *m = sched.ms; m != NULL; m = m->next) {
        for (G *g = m->allgs; g != NULL; g = g->allnext) {
            if (g != caller) {
                g->status = G_DEAD;
                atomic_store(&g->wake, WAKE_READY); /* nobody can wake it */
            }
        }
        if (m->g0 != caller) {
            m->g0->status = G_DEAD;
            atomic_store(&m->g0->wake, WAKE_READY);
        }
        timers_disown(m);
        if (m != mine) {
            stack_forget(m);
        }
    }
    atomic_store(&sched.ngoroutines, 0);
    atomic_store(&sched.ntimers, 0);
    sched.ms = NULL;
    sched.main = NULL;
    sched.quiet = (WaitQ){NULL, NULL};
    if (mine == NULL) {
        return; /* the next use makes an M for what is now the main thread */
    }
    mine->next = NULL;
    sched.ms = mine;
    mine->runq = mine->hogs = (GQueue){0};
    atomic_store(&mine->inbox, NULL);
    netpoll_close(mine); /* its epoll instance is the parent's too */
    atomic_store(&sched.npollwait, 0);
    atomic_store(&mine->sleeping, false);
    mine->allgs = NULL;
    memset(&mine->mu, 0, sizeof(mine->mu));
#ifdef Py_GIL_DISABLED
    mine->fresh = (GQueue){0};
    atomic_store(&mine->nfresh, 0);
    mine->marked = 0;
#endif
    mine->resting = mine->spins = false;
    atomic_store(&mine->surplus, false);
    mine->proc = 0;
    mine->nlocked = 0;
    caller->locks = 0; /* it is alone */
    mine->is_main = true;
    sched.main = mine;
    sched.maing = caller;
    caller->thread_main = true; /* a goroutine that forked is the child's main */
    caller->run = NULL;
}

/* In the child, before any hook of Python's: threading's, which may come before ours,
 * asks who the caller is, and that is the child's only thread now. */
static void
note_fork(void)
{
    M *m = tls_m;
    if (m != NULL && m->curg != NULL) {
        m->curg->thread_main = true;
    }
}

/* atexit: from now on nothing new begins. */
void
threads_shutdown(void)
{
    sched.finalizing = true;
}

/* Not PyErr_CheckSignals, which leaves it to the next Python code to take note that none
 * is pending any more: with handlers that are not Python's there is none, and the
 * thread would not fall asleep. */
static PyObject *
run_signals(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return Py_MakePendingCalls() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef report_deadlock_def = {"report_deadlock", deadlock_report, METH_NOARGS, NULL};
static PyMethodDef run_signals_def = {"run_signal_handlers", run_signals, METH_NOARGS, NULL};

int
threads_init(void)
{
    atomic_store(&sched.next_id, 2);
    pthread_atfork(NULL, NULL, note_fork);
    sched.run_signals = PyCFunction_New(&run_signals_def, NULL);
    sched.report_deadlock = PyCFunction_New(&report_deadlock_def, NULL);
    if (sched.run_signals == NULL || sched.report_deadlock == NULL) {
        return -1;
    }
    if (this_is_main_thread()) {
        return m_create() == NULL ? -1 : 0;
    }
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    while (ts != NULL && ts->thread_id != _PyRuntime.main_thread) {
        ts = PyThreadState_Next(ts);
    }
    M *m = ts != NULL ? m_alloc(ts) : NULL;
    if (m == NULL) {
        PyErr_SetString(PyExc_ImportError, "goroutines: there is no main thread");
        return -1;
    }
    m_link(m);
    m_make_main(m);
    return 0;
}
