/* SPDX-License-Identifier: MIT
 *
 * proc.c: goroutines begin, park, become ready, run and end.
 *
 * The scheduler has no stack of its own.  A goroutine that parks looks for the
 * next one to run itself (find_runnable), and sleeps right there when there is
 * none; if it is itself the next, nothing was copied or saved.  A goroutine
 * that ends does the same at the bottom of the stack (goroutine_main), where
 * it can begin the next unstarted one without any switch.
 *
 * Rejected: a scheduler goroutine per thread, as gevent's hub: two switches
 * for each park instead of one.
 *
 * Invariants:
 *   - m->loaded is the G whose interpreter state is in m->ts.  It stays the
 *     parked one while find_runnable sleeps on its stack.
 *   - m->curg is NULL while a thread looks for work.  Code that runs then (a
 *     destructor, the deadlock report) may use the runtime but not wait.
 *   - A G is on at most one of: its M's run queue, its M's inbox, being run.
 *     goready() is called only by who claimed the G (runtime.h), so once for
 *     each park.
 *   - Another thread reaches an M only through inbox and sleeping.  The waker
 *     pushes first and looks at sleeping then; the M sets sleeping first and
 *     looks at the inbox then; one of the two sees the other.
 */
#include "runtime.h"

Sched sched = {.mu = PTHREAD_MUTEX_INITIALIZER};
_Thread_local M *tls_m TLS_MODEL;

const char *const wait_reason_name[WAIT_REASONS] = {
    [WAIT_CHAN_RECEIVE] = "chan receive",
    [WAIT_CHAN_SEND] = "chan send",
    [WAIT_SELECT] = "select",
    [WAIT_SELECT_NO_CASES] = "select (no cases)",
    [WAIT_SLEEP] = "sleep",
    [WAIT_WAITGROUP] = "sync.WaitGroup.wait",
    [WAIT_JOIN] = "join",
    [WAIT_BLOCKING] = "blocking call",
    [WAIT_GOEXIT] = "goexit",
    [WAIT_RUN] = "end of run",
};

/* Other work is looked for each so many switches even when the queue is full. */
#define LOOK_EVERY 61

/* ---- queues of ready goroutines ------------------------------------------------ */

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
}

static inline G *
runq_get(GQueue *q)
{
    G *g = q->head;
    if (g != NULL) {
        q->head = g->schedlink;
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

/* End m's sleep, if it sleeps. */
void
m_rouse(M *m)
{
    if (m != NULL && atomic_exchange(&m->sleeping, false)) {
        netpoll_break(m);
    }
}

static void
inbox_put(M *m, G *g)
{
    G *head = atomic_load(&m->inbox);
    do {
        g->schedlink = head;
    } while (!atomic_compare_exchange_weak(&m->inbox, &head, g));
    m_rouse(m);
}

/* Move what others left for us to the run queue, oldest first. */
static bool
inbox_drain(M *m)
{
    if (atomic_load_explicit(&m->inbox, memory_order_relaxed) == NULL) {
        return false;
    }
    G *g = atomic_exchange(&m->inbox, NULL), *oldest = NULL;
    while (g != NULL) {
        G *next = g->schedlink;
        g->schedlink = oldest;
        oldest = g;
        g = next;
    }
    while (oldest != NULL) {
        G *next = oldest->schedlink;
        oldest->status = G_RUNNABLE;
        runq_put(&m->runq, oldest);
        oldest = next;
    }
    return true;
}

/* Make a claimed (or new) goroutine run again.  From any thread. */
void
goready(G *g)
{
    M *m = g->m;
    if (LIKELY(m == tls_m)) {
        g->status = G_RUNNABLE;
        runq_put(&m->runq, g);
    }
    else {
        inbox_put(m, g);
    }
}

/* ---- the list of all goroutines -------------------------------------------------- */

static void
allgs_add(M *m, G *g)
{
    LOCK_SCHED();
    g->allprev = NULL;
    g->allnext = m->allgs;
    if (m->allgs != NULL) {
        m->allgs->allprev = g;
    }
    m->allgs = g;
    UNLOCK_SCHED();
}

static void
allgs_remove(M *m, G *g)
{
    LOCK_SCHED();
    if (g->allprev != NULL) {
        g->allprev->allnext = g->allnext;
    }
    else {
        m->allgs = g->allnext;
    }
    if (g->allnext != NULL) {
        g->allnext->allprev = g->allprev;
    }
    g->allnext = g->allprev = NULL;
    UNLOCK_SCHED();
}

/* ---- idle ------------------------------------------------------------------------- */

/* Python code that the scheduler needs run goes into a goroutine: it may wait,
 * and what it raises belongs to main. */
static void
start_system(M *m, PyObject *fn)
{
    G *g = g_new(m, fn, NULL, 0, NULL);
    if (g == NULL) {
        PyErr_WriteUnraisable(NULL);
        return;
    }
    g->system = true;
    g_start(m, g);
    Py_DECREF(g);
}

#define HELD_BACK_FIRST ((int64_t)5 * 1000000)
#define HELD_BACK_MOST ((int64_t)1000 * 1000000)

/* Sleep until there may be work.  `patience` grows while only a foreign thread
 * keeps us from calling it a deadlock: its end is not told to us. */
static void
idle(M *m, int64_t *patience)
{
    G *was = m->curg;
    m->curg = NULL;
    netpoll_open(m);
    atomic_store(&m->sleeping, true);
    int64_t ns = FOREVER;
    if (m->timers.n > 0) {
        int64_t now = nanotime();
        ns = m->timers.heap[0].when == FOREVER ? FOREVER : m->timers.heap[0].when - now;
    }
    if (atomic_load(&m->inbox) == NULL && ns > 0) {
        bool held_back = false;
        if (m->tick != m->look_tick + 1 && deadlock_suspected(m, &held_back)) {
            m->look_tick = m->tick; /* the next idle() is the report's own end */
            start_system(m, sched.report_deadlock);
            ns = 0;
        }
        else if (held_back && ns > *patience) {
            ns = *patience;
            *patience = *patience * 2 < HELD_BACK_MOST ? *patience * 2 : HELD_BACK_MOST;
        }
        if (ns > 0 && atomic_load(&m->sleeping) && netpoll_sleep(m, ns)) {
            start_system(m, sched.run_signals);
        }
    }
    atomic_store(&m->sleeping, false);
    m->curg = was;
}

/* The next goroutine to run.  Comes back only with one. */
static inline G *
find_runnable(M *m)
{
    if (UNLIKELY(++m->tick % LOOK_EVERY == 0)) {
        inbox_drain(m);
        if (m->timers.n > 0) {
            timers_run(m);
        }
    }
    int64_t patience = HELD_BACK_FIRST;
    for (;;) {
        G *g = runq_get(&m->runq);
        if (LIKELY(g != NULL)) {
            return g;
        }
        if (!inbox_drain(m) && !timers_run(m)) {
            idle(m, &patience);
        }
    }
}

/* ---- the switch --------------------------------------------------------------------- */

static void goroutine_main(void);

/* Give an unstarted goroutine its frames and load its first state. */
static inline void
load_fresh(M *m, G *g)
{
    pystate_fresh(m->ts, &g->ps, chunk_get(m), m->c_depth_left);
    g->started = true;
    pystate_load(m->ts, &g->ps);
}

/* Leave `from` (NULL: it has ended) and run `to`; returns when from is back. */
static inline void
switch_to(M *m, G *from, G *to)
{
    void *nowhere, **save = from != NULL ? &from->sp : &nowhere;
    if (from != NULL) {
        pystate_save(m->ts, &from->ps, m->base);
    }
    m->curg = m->loaded = to;
    m->nswitch++;
    to->status = G_RUNNING;
    if (LIKELY(to->started)) {
        pystate_load(m->ts, &to->ps);
        go_switch(save, to->sp, from, to);
    }
    else {
        load_fresh(m, to);
        go_begin(save, m->base, from, goroutine_main);
    }
    pystate_resumed(m->ts, &from->ps);
}

static inline void
schedule(M *m, G *g)
{
    G *next = find_runnable(m);
    if (next == g) {
        m->curg = g;
        g->status = G_RUNNING;
    }
    else {
        switch_to(m, g, next);
    }
}

/* ---- park ------------------------------------------------------------------------------ */

static void
fire_timeout(M *m, void *arg)
{
    G *g = arg;
    (void)m;
    g->timer = NULL;
    if (g_claim(g, WAKE_TIMEOUT)) {
        goready(g);
    }
}

static int
pending_for_main(void *unused)
{
    (void)unused;
    M *m = tls_m;
    if (m != NULL && m->curg != NULL && m->curg->thread_main && m->curg->pending != NULL) {
        raise_pending(m->curg);
        return -1;
    }
    return 0;
}

/* Before a wait: raise what must not wait.  0 if g may park, else -1. */
int
park_check(M *m, G *g)
{
    TORTURE(m);
    if (UNLIKELY(g == NULL)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot wait here: a destructor that runs between goroutines must not "
                        "block; start a goroutine with go() for it");
        return -1;
    }
    if (UNLIKELY(m->in_gc)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot wait in a finalizer while the garbage collector runs; start a "
                        "goroutine with go() for it");
        return -1;
    }
    if (UNLIKELY(g->exiting) && g->pending == NULL &&
        !pystate_handles(m->ts, sched.goroutine_exit)) {
        PyErr_SetNone(sched.goroutine_exit);
        return -1;
    }
    if (UNLIKELY(sched.finalizing) && interpreter_finalizing()) {
        PyErr_SetString(PyExc_RuntimeError, "cannot wait: the interpreter is shutting down");
        return -1;
    }
    return 0;
}

/* Park g, whose Sudogs are in place, for at most `timeout` ns (-1: no limit).
 * The caller has called g_will_wait, and now takes its Sudogs back unless the
 * answer is WAKE_READY. */
Wake
gopark(M *m, G *g, int64_t timeout, WaitReason why)
{
    if (UNLIKELY(g->pending != NULL) && g_claim(g, WAKE_EXCEPTION)) {
        return WAKE_EXCEPTION;
    }
    g->status = G_WAITING;
    g->reason = (uint8_t)why;
    g->nparks++;
    if (timeout >= 0) {
        g->timer = timer_start(m, timeout, fire_timeout, g);
    }
    schedule(m, g);
    if (g->timer != NULL) {
        timer_stop(m, g->timer);
        g->timer = NULL;
    }
    Wake how = atomic_load_explicit(&g->wake, memory_order_acquire);
    if (UNLIKELY(g->pending != NULL) && how != WAKE_EXCEPTION && g->thread_main && m->is_main) {
        Py_AddPendingCall(pending_for_main, NULL);
    }
    return how;
}

/* Let the others run.  -1 with an exception that was meant for us. */
int
gosched(M *m)
{
    G *g = m->curg;
    if (UNLIKELY(m->in_gc)) {
        return 0; /* a finalizer in the collector cannot let others run */
    }
    if (park_check(m, g) < 0) {
        return -1;
    }
    runq_put(&m->runq, g);
    g->status = G_RUNNABLE;
    schedule(m, g);
    if (UNLIKELY(g->pending != NULL)) {
        raise_pending(g);
        return -1;
    }
    return 0;
}

#ifdef GOROUTINES_TORTURE
void
torture_switch(M *m)
{
    G *g = m->curg;
    runq_put(&m->runq, g);
    g->status = G_RUNNABLE;
    schedule(m, g);
}
#endif

/* Raise exc in g: at once if it waits, else at its next wait. */
void
g_interrupt(G *g, PyObject *exc)
{
    LOCK(&g->mu);
    bool first = g->pending == NULL;
    if (first) {
        g->pending = Py_NewRef(exc);
    }
    UNLOCK(&g->mu);
    if (!first) {
        return;
    }
    if (g_claim(g, WAKE_EXCEPTION)) {
        goready(g);
    }
    else if (g == sched.maing) {
        Py_AddPendingCall(pending_for_main, NULL);
    }
}

void
raise_pending(G *g)
{
    LOCK(&g->mu);
    PyObject *exc = g->pending;
    g->pending = NULL;
    UNLOCK(&g->mu);
    if (exc != NULL) {
        set_raised(exc);
    }
    else if (g->exiting) {
        PyErr_SetNone(sched.goroutine_exit);
    }
    else {
        throw_("a goroutine was woken for an exception that is not there");
    }
}

/* Raise what a park that was not WAKE_READY stands for; always -1. */
int
wake_error(G *g, Wake how, const char *op, PyObject *o)
{
    if (how == WAKE_EXCEPTION) {
        raise_pending(g);
    }
    else if (o != NULL) {
        PyErr_Format(PyExc_TimeoutError, "%s timed out: %R", op, o);
    }
    else {
        PyErr_Format(PyExc_TimeoutError, "%s timed out", op);
    }
    return -1;
}

static int
join_wait(M *m, G *g, int64_t ns, WaitReason why)
{
    G *me = m->curg;
    if (park_check(m, me) < 0) {
        return -1;
    }
    LOCK(&g->mu);
    if (g->status == G_DEAD) {
        UNLOCK(&g->mu);
        return 0;
    }
    g_will_wait(me);
    waitq_push(&g->joiners, &me->sg);
    UNLOCK(&g->mu);
    Wake how = gopark(m, me, ns, why);
    if (how == WAKE_READY) {
        return 0;
    }
    LOCK(&g->mu);
    waitq_remove(&g->joiners, &me->sg);
    UNLOCK(&g->mu);
    return wake_error(me, how, "join", (PyObject *)g);
}

/* Wait until g is dead.  0, or -1 with an exception. */
int
join(M *m, G *g, int64_t ns, WaitReason why)
{
    if (g->status == G_DEAD) {
        return 0;
    }
    if (ns == 0) {
        PyErr_Format(PyExc_TimeoutError, "join timed out: %R is not done", g);
        return -1;
    }
    Py_INCREF(g); /* the runtime's reference goes when g ends */
    int r = join_wait(m, g, ns, why);
    Py_DECREF(g);
    return r;
}

/* ---- begin and end --------------------------------------------------------------------- */

static void
run_release(Run *run)
{
    if (run != NULL && --run->refs == 0) {
        free(run);
    }
}

static void
remember_birth(M *m, G *g)
{
    PyFrameData *f = pystate_current_frame(m->ts);
    while (f != NULL && frame_is_entry(f)) {
        f = f->previous;
    }
    if (f != NULL) {
        g->birth_code = Py_NewRef((PyObject *)frame_code(f));
        g->birth_lasti = frame_lasti(f);
    }
}

static G *
g_alloc(M *m)
{
    G *g = m->freeg;
    if (g != NULL) {
        m->freeg = g->schedlink;
        m->nfreeg--;
        memset((char *)g + sizeof(PyObject), 0, sizeof(G) - sizeof(PyObject));
        PyObject_Init((PyObject *)g, g_type);
    }
    else if ((g = (G *)g_type->tp_alloc(g_type, 0)) == NULL) {
        return NULL;
    }
    g->m = m;
    g->sg.g = g;
    g->status = G_RUNNABLE;
    atomic_store_explicit(&g->wake, WAKE_READY, memory_order_relaxed);
    return g;
}

/* A goroutine that will call fn; nothing runs until g_start.  New reference. */
G *
g_new(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    G *g = g_alloc(m);
    if (g == NULL) {
        return NULL;
    }
    g->fn = Py_NewRef(fn);
    Py_ssize_t all = nargs + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    if (all > 0) {
        g->args = PyTuple_New(all);
        if (g->args == NULL) {
            goto error;
        }
        for (Py_ssize_t i = 0; i < all; i++) {
            PyTuple_SET_ITEM(g->args, i, Py_NewRef(args[i]));
        }
        g->kwnames = Py_XNewRef(kwnames);
    }
    if (!context_is_empty(m->ts->context)) {
        g->ps.context = PyContext_Copy(m->ts->context);
        if (g->ps.context == NULL) {
            goto error;
        }
    }
    remember_birth(m, g);
    return g;
error:
    g->status = G_DEAD;
    Py_DECREF(g);
    return NULL;
}

/* Queue g, made by g_new in this thread.  The runtime takes a reference. */
void
g_start(M *m, G *g)
{
    G *parent = m->curg != NULL ? m->curg : m->g0;
    M *home = m;
    g->id = atomic_fetch_add_explicit(&sched.next_id, 1, memory_order_relaxed);
    g->parent_id = parent->id;
    if (!g->system) {
        atomic_fetch_add_explicit(&sched.ngoroutines, 1, memory_order_relaxed);
        if (parent->run != NULL) {
            g->run = parent->run;
            g->run->refs++;
            atomic_fetch_add_explicit(&g->run->live, 1, memory_order_relaxed);
        }
    }
    if (m->is_worker && sched.main != NULL) {
        g->m = home = sched.main; /* a worker waits for jobs, not for goroutines */
    }
    Py_INCREF(g);
    allgs_add(home, g);
    goready(g);
}

static void
g_mark_dead(G *g)
{
    LOCK(&g->mu);
    g->status = G_DEAD;
    Sudog *sg;
    while ((sg = waitq_claim(&g->joiners)) != NULL) {
        goready(sg->g);
    }
    UNLOCK(&g->mu);
}

/* Tell who waits for g, and take it off all lists. */
static void
g_retire(M *m, G *g)
{
    allgs_remove(m, g);
    if (!g->system) {
        atomic_fetch_sub_explicit(&sched.ngoroutines, 1, memory_order_relaxed);
    }
    if (g->run != NULL) {
        atomic_fetch_sub_explicit(&g->run->live, 1, memory_order_relaxed);
        run_release(g->run);
        g->run = NULL;
    }
    g_mark_dead(g);
    Py_CLEAR(g->pending);
}

/* WaitGroup.go: done() comes before the panic, if there is one. */
static NOINLINE PyObject *
g_done(G *g, PyObject *r)
{
    PyObject *wg = g->waitgroup, *exc = take_raised();
    g->waitgroup = NULL;
    if (waitgroup_add(wg, -1) < 0) {
        Py_CLEAR(r);
        if (exc != NULL) {
            PyErr_WriteUnraisable(wg);
        }
    }
    if (exc != NULL) {
        set_raised(exc);
    }
    Py_DECREF(wg);
    return r;
}

/* An unstarted goroutine that shall never run. */
static void
g_discard(M *m, G *g)
{
    if (g->waitgroup != NULL) {
        Py_XDECREF(g_done(g, Py_NewRef(Py_None)));
        PyErr_Clear();
    }
    Py_CLEAR(g->fn);
    Py_CLEAR(g->args);
    Py_CLEAR(g->kwnames);
    Py_CLEAR(g->ps.context);
    g_retire(m, g);
    Py_DECREF(g);
}

static G *
main_of(G *g)
{
    return g->run != NULL && g->run->main != NULL ? g->run->main : sched.maing;
}

/* The process of a goroutine that forked ends with it. */
static void
forked_main_exit(PyObject *exc)
{
    int status = 0;
    if (exc != NULL && PyErr_GivenExceptionMatches(exc, PyExc_SystemExit)) {
        set_raised(exc);
        PyErr_Print(); /* exits */
    }
    else if (exc != NULL && !PyErr_GivenExceptionMatches(exc, sched.goroutine_exit)) {
        status = 2;
        PyObject *r = PyObject_CallFunctionObjArgs(sched.uncaught, tls_m->curg, exc, NULL);
        Py_XDECREF(r);
        PyErr_Clear();
    }
    Py_Exit(status);
}

/* The exception that left g goes to the Python side, which says what main gets. */
static NOINLINE void
g_uncaught(G *g)
{
    PyObject *exc = take_raised();
    if (exc == NULL) {
        PyErr_SetString(PyExc_SystemError, "a goroutine's function failed without an exception");
        exc = take_raised();
    }
    if (g == sched.maing) {
        forked_main_exit(exc);
    }
    if (g->system) {
        g_interrupt(sched.maing, exc); /* a signal handler's: as if raised in main */
    }
    else if (!PyErr_GivenExceptionMatches(exc, sched.goroutine_exit)) {
        PyObject *r = PyObject_CallFunctionObjArgs(sched.uncaught, g, exc, NULL);
        if (r == NULL) {
            PyErr_WriteUnraisable((PyObject *)g);
        }
        else if (PyExceptionInstance_Check(r)) {
            g_interrupt(main_of(g), r);
        }
        Py_XDECREF(r);
    }
    Py_DECREF(exc);
}

/* Drop what g holds, still as a running goroutine: destructors may wait. */
static inline void
g_drop_contents(M *m, G *g)
{
    Py_CLEAR(g->fn);
    Py_CLEAR(g->args);
    Py_CLEAR(g->kwnames);
    if (m->ts->context != NULL) {
        PyObject *ctx = m->ts->context;
        m->ts->context = NULL;
        m->ts->context_ver++;
        Py_DECREF(ctx);
    }
}

static NOINLINE void
g_execute(M *m, G *g)
{
    PyObject *r;
    if (g->args == NULL) {
        r = PyObject_CallNoArgs(g->fn);
    }
    else {
        Py_ssize_t nkw = g->kwnames != NULL ? PyTuple_GET_SIZE(g->kwnames) : 0;
        r = PyObject_Vectorcall(g->fn, &PyTuple_GET_ITEM(g->args, 0),
                                (size_t)(PyTuple_GET_SIZE(g->args) - nkw), g->kwnames);
    }
    if (UNLIKELY(g->waitgroup != NULL)) {
        r = g_done(g, r);
    }
    if (LIKELY(r != NULL)) {
        Py_DECREF(r);
    }
    else {
        g_uncaught(g);
    }
    if (UNLIKELY(g == sched.maing)) {
        forked_main_exit(NULL);
    }
    g_drop_contents(m, g);
    INVARIANT(m->curg == g && m->loaded == g);
    g_retire(m, g);
    m->curg = m->loaded = NULL;
    slice_free(g);
    chunk_put(m, m->ts->datastack_chunk);
    Py_DECREF(g);
}

/* The bottom of the goroutines' stack.  Everything here must reread its M's
 * state after each goroutine; the stack below holds nothing else. */
static void
goroutine_main(void)
{
    M *m = tls_m;
    for (;;) {
        g_execute(m, m->curg);
        G *next = find_runnable(m);
        if (next->started) {
            switch_to(m, NULL, next);
            throw_("an ended goroutine was switched to");
        }
        m->curg = m->loaded = next;
        next->status = G_RUNNING;
        load_fresh(m, next);
    }
}

/* ---- run() --------------------------------------------------------------------------------- */

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
        if (g_claim(g, WAKE_EXCEPTION)) {
            goready(g);
        }
    }
}

/* Hand what has not started to the main thread. */
static void
hand_over_unstarted(M *m)
{
    inbox_drain(m);
    GQueue keep = {NULL, NULL};
    G *g;
    while ((g = runq_get(&m->runq)) != NULL) {
        if (g->started || sched.main == NULL) {
            runq_put(&keep, g);
            continue;
        }
        allgs_remove(m, g);
        g->m = sched.main;
        allgs_add(sched.main, g);
        inbox_put(sched.main, g);
    }
    m->runq = keep;
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
wait_for_end(M *m, Run *run)
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

PyObject *
proc_run(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
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

static bool
this_is_main_thread(void)
{
    return PyThread_get_thread_ident() == _PyRuntime.main_thread;
}

static M *
m_alloc(PyThreadState *ts)
{
    M *m = calloc(1, sizeof(M));
    if (m == NULL) {
        return NULL;
    }
    m->ts = ts;
    m->wakefd = -1;
    m->look_tick = UINT32_MAX - 1; /* no report yet */
    m->rng = (uint64_t)nanotime() * 0x9E3779B97F4A7C15u | 1;
    m->g0 = (G *)g_type->tp_alloc(g_type, 0);
    if (m->g0 == NULL) {
        free(m);
        return NULL;
    }
    G *g = m->g0;
    g->m = m;
    g->sg.g = g;
    g->thread_main = g->started = true;
    g->status = G_RUNNING;
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
    m->c_depth_left = pystate_c_left(m->ts);
    tls_m = m;
}

static void
m_link(M *m)
{
    LOCK_SCHED();
    m->next = sched.ms;
    sched.ms = m;
    UNLOCK_SCHED();
}

static void
m_make_main(M *m)
{
    m->is_main = true;
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
        m->g0->id = atomic_fetch_add(&sched.next_id, 1);
    }
    m_bind(m);
    m_link(m);
    return m;
}

static void
m_free(M *m)
{
    netpoll_close(m);
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

/* A thread ends: called by CPython with the thread state still usable. */
void
thread_exit(M *m)
{
    if (sched.finalizing) {
        return;
    }
    PyObject *raised = take_raised();
    hand_over_unstarted(m);
    m->curg = m->g0;
    if (wait_for_end(m, NULL) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    hand_over_unstarted(m);
    g_mark_dead(m->g0);
    ended_thread = m->ts->id;
    LOCK_SCHED();
    M **link = &sched.ms;
    while (*link != m) {
        link = &(*link)->next;
    }
    *link = m->next;
    UNLOCK_SCHED();
    m_free(m);
    if (raised != NULL) {
        set_raised(raised);
    }
}

/* ---- process ------------------------------------------------------------------------------------ */

/* In a forked child only the caller goes on.  The others' references are kept
 * for ever: their cleanup belongs to the parent. */
void
proc_after_fork(void)
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
    }
    atomic_store(&sched.ngoroutines, 0);
    atomic_store(&sched.ntimers, 0);
    sched.ms = NULL;
    sched.main = NULL;
    if (mine == NULL) {
        return; /* the next use makes an M for what is now the main thread */
    }
    mine->next = NULL;
    sched.ms = mine;
    mine->runq = (GQueue){NULL, NULL};
    atomic_store(&mine->inbox, NULL);
    memset(&mine->timers, 0, sizeof(mine->timers));
    netpoll_close(mine);
    atomic_store(&mine->sleeping, false);
    mine->allgs = NULL;
    mine->is_main = true;
    sched.main = mine;
    sched.maing = caller;
    caller->thread_main = true; /* a goroutine that forked is the child's main */
    caller->id = 1;
    caller->run = NULL;
}

/* atexit: from now on nothing new begins. */
void
proc_shutdown(void)
{
    sched.finalizing = true;
}

static PyObject *
run_signals(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    return PyErr_CheckSignals() < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef report_deadlock_def = {"report_deadlock", deadlock_report, METH_NOARGS, NULL};
static PyMethodDef run_signals_def = {"run_signal_handlers", run_signals, METH_NOARGS, NULL};

int
proc_init(void)
{
    atomic_store(&sched.next_id, 2);
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
