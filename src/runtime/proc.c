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
    [WAIT_MUTEX_LOCK] = "sync.Mutex.lock",
    [WAIT_RWMUTEX_LOCK] = "sync.RWMutex.lock",
    [WAIT_RWMUTEX_RLOCK] = "sync.RWMutex.rlock",
    [WAIT_COND] = "sync.Cond.wait",
    [WAIT_SEMAPHORE] = "sync.Semaphore.acquire",
    [WAIT_ONCE] = "sync.Once.do",
    [WAIT_JOIN] = "join",
    [WAIT_BLOCKING] = "blocking call",
    [WAIT_GOEXIT] = "goexit",
    [WAIT_RUN] = "end of run",
    [WAIT_QUIET] = "all blocked",
    [WAIT_FUTURE] = "future",
    [WAIT_POOL_IDLE] = "pool: no work",
    [WAIT_POOL_ROOM] = "pool: submit",
    [WAIT_POOL_END] = "pool: shutdown",
    [WAIT_IO] = "IO wait",
    [WAIT_THREAD_LOCK] = "threading.Lock.acquire",
    [WAIT_THREAD_RLOCK] = "threading.RLock.acquire",
    [WAIT_SIMPLE_QUEUE] = "queue.SimpleQueue.get",
    [WAIT_PROC] = "proc",
};

/* Other work is looked for each so many switches even when the queue is full. */
#define LOOK_EVERY 61

#ifdef Py_GIL_DISABLED
#define PROC_SLEEPS(m) procs_sleeps(m)
#define PROC_WAKES(m) procs_wakes(m)
#else
#define PROC_SLEEPS(m) ((void)0)
#define PROC_WAKES(m) ((void)0)
#endif

/* ---- ready: the run queue and the inbox ------------------------------------------------ */

/* End m's sleep, if it sleeps. */
void
m_rouse(M *m)
{
    if (m != NULL && atomic_load(&m->sleeping) && atomic_exchange(&m->sleeping, false)) {
        atomic_fetch_add_explicit(&sched.nwakes, 1, memory_order_relaxed);
        netpoll_break(m);
    }
}

/* Put g, which can run, at the end of m's queue; by m's thread. */
inline void
enqueue(M *m, G *g)
{
    g->status = G_RUNNABLE;
#ifdef Py_GIL_DISABLED
    g->turn = atomic_load_explicit(&m->turn, memory_order_relaxed);
    atomic_store_explicit(&m->turn, g->turn + 1, memory_order_relaxed);
    if (!g->started && !g->system) {
        fresh_put(m, g);
        return;
    }
#endif
    runq_put(&m->runq, g);
}

/* Take the first of m's queue; by m's thread. */
static inline G *
dequeue(M *m)
{
#ifdef Py_GIL_DISABLED
    if (UNLIKELY(atomic_load_explicit(&m->stop, memory_order_relaxed))) {
        atomic_store(&m->g0->wake, WAKE_READY);
        return m->g0;
    }
    if (atomic_load_explicit(&m->nfresh, memory_order_relaxed) > 0) {
        return fresh_or_woken(m);
    }
#endif
    return runq_get(&m->runq);
}

/* Whether anything stands in m's queue. */
bool
has_work(M *m)
{
#ifdef Py_GIL_DISABLED
    if (atomic_load(&m->nfresh) > 0) {
        return true;
    }
#endif
    return *(G *volatile *)&m->runq.head != NULL || *(G *volatile *)&m->hogs.head != NULL;
}

void
inbox_put(M *m, G *g)
{
    G *head = atomic_load(&m->inbox);
    do {
        g->schedlink = head;
    } while (!atomic_compare_exchange_weak(&m->inbox, &head, g));
    m_rouse(m);
}

/* Move what others left for us to the run queue, oldest first. */
bool
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
        enqueue(m, oldest);
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
        enqueue(m, g);
    }
    else {
        inbox_put(m, g);
    }
}

/* ---- the list of all goroutines -------------------------------------------------- */

static inline void
link_g(M *m, G *g)
{
    g->allprev = NULL;
    g->allnext = m->allgs;
    if (m->allgs != NULL) {
        m->allgs->allprev = g;
    }
    m->allgs = g;
}

static inline void
unlink_g(M *m, G *g)
{
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
}

void
allgs_add(M *m, G *g)
{
    LOCK(&m->mu);
    link_g(m, g);
    UNLOCK(&m->mu);
}

void
allgs_remove(M *m, G *g)
{
    LOCK(&m->mu);
    unlink_g(m, g);
    UNLOCK(&m->mu);
}

/* An unstarted goroutine gets another M.  The caller holds both their mu. */
void
g_move(G *g, M *to)
{
    unlink_g(g->m, g);
    g->m = to;
    link_g(to, g);
}

/* ---- idle ------------------------------------------------------------------------- */

/* Python code that the scheduler needs run goes into a goroutine: it may wait,
 * and what it raises belongs to main. */
void
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

/* Until m's next timer. */
static inline int64_t
until_timer(M *m)
{
    int64_t when = m->timers.n > 0 ? timers_next(m) : FOREVER;
    return when == FOREVER ? FOREVER : when - clock_now();
}

static bool
others_have_events(M *self)
{
    bool any = false;
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL && !any; m = m->next) {
        any = m != self && netpoll_pending(m);
    }
    UNLOCK_SCHED();
    return any;
}

/* For tests, when no goroutine of any thread can run: wake those that wait for
 * just this, or else let a stopped clock jump.  True: there is work. */
static bool
all_is_quiet(M *m)
{
    if (LIKELY(sched.quiet.first == NULL && !clock_is_frozen()) || !nothing_runnable(m)) {
        return false;
    }
    if (netpoll_look(m)) {
        return true; /* what has come, and was not looked for yet */
    }
    if (others_have_events(m) || !nothing_runnable(m)) {
        return false; /* who is woken by them, or was just then, asks again */
    }
    G *wake = NULL;
    LOCK_SCHED();
    waitq_wake_all(&sched.quiet, &wake);
    UNLOCK_SCHED();
    if (wake == NULL && atomic_load(&sched.nblocking) == 0) {
        clock_jump(m);
    }
    goready_all(wake);
    return wake != NULL || until_timer(m) <= 0;
}

/* Whether others left something for m, while it said that it sleeps. */
static inline bool
something_came(M *m)
{
#ifdef Py_GIL_DISABLED
    if (atomic_load(&m->nfresh) > 0 && m->nlocked == 0) {
        return true; /* see fresh_hand_over() */
    }
#endif
    return atomic_load(&m->inbox) != NULL;
}

#define HELD_BACK_FIRST ((int64_t)5 * 1000000)
#define HELD_BACK_MOST ((int64_t)1000 * 1000000)

/* Sleep until there may be work.  `patience` grows while only a foreign thread
 * keeps us from calling it a deadlock: its end is not told to us. */
static NOINLINE void
idle(M *m, int64_t *patience)
{
    G *was = m->curg;
    m->curg = NULL;
    netpoll_open(m);
    PROC_SLEEPS(m);
    atomic_store(&m->sleeping, true);
    int64_t ns = until_timer(m);
    if (!something_came(m) && ns > 0 && !all_is_quiet(m)) {
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
    PROC_WAKES(m);
    if (UNLIKELY(atomic_load(&sysmon_asleep))) {
        sysmon_rouse();
    }
    m->curg = was;
}

/* Before a sleep, without a GIL: what other Ms have, and what comes just now. */
static inline bool
work_is_found(M *m)
{
#ifdef Py_GIL_DISABLED
    G *was = m->curg;
    m->curg = NULL;
    bool found = m->proc >= 0 && procs_find_work(m, until_timer(m));
    m->curg = was;
    return found;
#else
    (void)m;
    return false;
#endif
}

/* The next goroutine to run.  Comes back only with one. */
static inline G *
find_runnable(M *m)
{
    if (UNLIKELY(++m->tick % LOOK_EVERY == 0)) {
        inbox_drain(m);
        netpoll_look(m);
        if (m->timers.n > 0) {
            timers_run(m);
        }
        if (m->hogs.head != NULL) {
            return runq_get(&m->hogs);
        }
    }
    int64_t patience = HELD_BACK_FIRST;
    for (;;) {
        G *g = dequeue(m);
        if (LIKELY(g != NULL)) {
            return g;
        }
        if (inbox_drain(m) || timers_run(m)) {
            continue;
        }
        if (m->hogs.head != NULL) {
            return runq_get(&m->hogs);
        }
        m->sp = __builtin_frame_address(0);
        if (!work_is_found(m)) {
            idle(m, &patience);
        }
    }
}

/* ---- the switch --------------------------------------------------------------------- */

static void goroutine_main(void);

/* g's state has been loaded: 3.14+ has the end of C recursion in the thread state too. */
static inline void
limit_follow(M *m, G *g)
{
    pystate_set_c_end(m->ts,
                      atomic_load_explicit(&m->limits.c_end[g->thread_main], memory_order_relaxed));
    (void)m;
    (void)g;
}

/* Give an unstarted goroutine its frames and load its first state. */
static inline void
load_fresh(M *m, G *g)
{
    ThreadVars *vars = UNLIKELY(sched.vars_apart) ? calloc(1, sizeof(ThreadVars)) : NULL;
    int counts = atomic_load_explicit(&m->limits.counts, memory_order_relaxed);
    pystate_fresh(m->ts, &g->ps, chunk_get(m), counts, vars != NULL ? vars : &m->vars);
    g->started = true;
    pystate_load(m->ts, &g->ps);
    limit_follow(m, g);
    vars_switch(m->ts, &m->vars_now, g->ps.vars);
}

#if PY_VERSION_HEX < 0x030D0000
/* asyncio caches the running loop by thread: tell it that g has another. */
static NOINLINE void
tell_loop(M *m, G *g)
{
    PyObject *raised = take_raised(), *loop = g->ps.vars->loop;
    PyObject *r = PyObject_CallOneArg(sched.set_running_loop, loop != NULL ? loop : Py_None);
    if (r == NULL) {
        PyErr_WriteUnraisable((PyObject *)g);
    }
    Py_XDECREF(r);
    m->told_loop = loop;
    if (raised != NULL) {
        set_raised(raised);
    }
}
#endif

static inline void
follow_loop(M *m, G *g)
{
#if PY_VERSION_HEX < 0x030D0000
    if (UNLIKELY(g->ps.vars->loop != m->told_loop)) {
        tell_loop(m, g);
    }
#else
    (void)m;
    (void)g;
#endif
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
        limit_follow(m, to);
        vars_switch(m->ts, &m->vars_now, to->ps.vars);
        go_switch(save, to->sp, from, to);
    }
    else {
        load_fresh(m, to);
        go_begin(save, m->base, from, goroutine_main);
    }
    pystate_resumed(m->ts, &from->ps);
    follow_loop(m, from);
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
        __builtin_prefetch(g->ps.frame);
        __builtin_prefetch((char *)g->ps.frame + 64);
        __builtin_prefetch(g->slice);
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

/* g runs again: what came for it while another one ran has yet to be raised. */
static inline void
remind_main(M *m, G *g)
{
    if (UNLIKELY(g->pending != NULL) && g->thread_main && m->is_main) {
        Py_AddPendingCall(pending_for_main, NULL);
    }
}

/* Raise for who must not leave the processor.  0 if g may, else -1. */
static int
yield_check(M *m, G *g)
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
    if (UNLIKELY(g->exiting) && !g->insists && g->pending == NULL &&
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

/* Before a wait: raise what must not wait.  0 if g may park, else -1. */
int
park_check(M *m, G *g)
{
    if (yield_check(m, g) < 0) {
        return -1;
    }
    return UNLIKELY(g->scope != NULL) && scope_ended(g) ? scope_raise(g) : 0;
}

/* What may have come for g between its park_check and g_will_wait. */
static inline Wake
wake_at_once(M *m, G *g)
{
#ifdef Py_GIL_DISABLED
    if (UNLIKELY(g->exiting) && !g->insists && !pystate_handles(m->ts, sched.goroutine_exit) &&
        g_claim(g, WAKE_EXCEPTION)) {
        return WAKE_EXCEPTION;
    }
#else
    (void)m;
#endif
    if (UNLIKELY(g->pending != NULL) && g_claim(g, WAKE_EXCEPTION)) {
        return WAKE_EXCEPTION;
    }
    if (UNLIKELY(g->scope != NULL) && scope_ended(g) && g_claim(g, WAKE_SCOPE)) {
        return WAKE_SCOPE;
    }
    return WAKE_NOT_YET;
}

static inline void
end_timer(M *m, G *g)
{
    if (g->timer != NULL) {
        timer_stop(m, g->timer);
        g->timer = NULL;
    }
}

/* Park g, whose Sudogs are in place, for at most `timeout` ns (-1: no limit).
 * The caller has called g_will_wait, and now takes its Sudogs back unless the
 * answer is WAKE_READY. */
Wake
gopark(M *m, G *g, int64_t timeout, WaitReason why)
{
    Wake how = wake_at_once(m, g);
    if (UNLIKELY(how != WAKE_NOT_YET)) {
        end_timer(m, g);
        return how;
    }
    g->status = G_WAITING;
    g->reason = (uint8_t)why;
    g->nparks++;
    m->nparks++;
    if (timeout >= 0) {
        g->timer = timer_start(m, timeout, fire_timeout, g);
    }
    schedule(m, g);
    end_timer(m, g);
    how = atomic_load_explicit(&g->wake, memory_order_acquire);
    if (how != WAKE_EXCEPTION) {
        remind_main(m, g);
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
    if (yield_check(m, g) < 0) {
        return -1;
    }
    if (!has_work(m)) { /* who polls with gosched waits for one of these */
        inbox_drain(m);
        netpoll_look(m);
        timers_run(m);
    }
    enqueue(m, g);
    schedule(m, g);
    if (UNLIKELY(g->pending != NULL)) {
        raise_pending(g);
        return -1;
    }
    return 0;
}

/* Let the others run, amid the code of one that did not ask for it: so nothing
 * is raised here. */
void
gopreempt(M *m)
{
    G *g = m->curg;
    if (g == NULL || g->in_call || m->in_gc || sched.finalizing) {
        return;
    }
    inbox_drain(m); /* what waits for a look each so many switches would wait for long */
    netpoll_look(m);
    timers_run(m);
    atomic_fetch_add_explicit(&sched.npreempts, 1, memory_order_relaxed);
    g->status = G_RUNNABLE;
    runq_put(&m->hogs, g);
    schedule(m, g);
    remind_main(m, g);
}

/* Wait until no goroutine, this one apart, can run: for tests. */
int
wait_quiet(M *m)
{
    G *g = m->curg;
    if (park_check(m, g) < 0) {
        return -1;
    }
    g_will_wait(g);
    LOCK_SCHED();
    waitq_push(&sched.quiet, &g->sg);
    UNLOCK_SCHED();
    Wake how = gopark(m, g, -1, WAIT_QUIET);
    if (how == WAKE_READY) {
        return 0;
    }
    LOCK_SCHED();
    waitq_remove(&sched.quiet, &g->sg);
    UNLOCK_SCHED();
    return wake_error(g, how, "wait_all_blocked", NULL);
}

#ifdef GOROUTINES_TORTURE
void
torture_switch(M *m)
{
    enqueue(m, m->curg);
    schedule(m, m->curg);
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
    else if (how == WAKE_SCOPE) {
        scope_raise(g);
    }
    else if (o != NULL) {
        PyErr_Format(PyExc_TimeoutError, "%s timed out: %R", op, o);
    }
    else {
        PyErr_Format(PyExc_TimeoutError, "%s timed out", op);
    }
    return -1;
}

/* What every wait in a queue asks first, before it takes the lock: -1 with
 * TimeoutError if ns is 0, or with what park_check raises. */
int
may_wait(M *m, int64_t ns, const char *op, PyObject *o)
{
    return ns == 0 ? wake_error(m->curg, WAKE_TIMEOUT, op, o) : park_check(m, m->curg);
}

/* Park in q, where the caller has put g's own Sudog, for at most ns (-1: no
 * limit).  The caller holds mu, q's lock, and loses it.  0 once a waker took us
 * out of q, else -1 with an exception. */
int
wait_queued(M *m, WaitQ *q, Lock *mu, int64_t ns, WaitReason why, const char *op, PyObject *o)
{
    G *g = m->curg;
    g_will_wait(g);
    UNLOCK(mu);
    g->sg.elem = Py_NewRef(o); /* its owner may drop it meanwhile */
    int r = 0;
    Wake how = gopark(m, g, ns, why);
    g->sg.elem = NULL;
    if (how != WAKE_READY) {
        LOCK(mu);
        waitq_remove(q, &g->sg);
        UNLOCK(mu);
        r = wake_error(g, how, op, o);
    }
    Py_DECREF(o);
    return r;
}

/* The same for who is not in q yet: wait at its end. */
int
wait_in(M *m, WaitQ *q, Lock *mu, int64_t ns, WaitReason why, const char *op, PyObject *o)
{
    waitq_push(q, &m->curg->sg);
    return wait_queued(m, q, mu, ns, why, op, o);
}

/* Claim all who wait in q, whose lock is held, for goready_all(*wake). */
void
waitq_wake_all(WaitQ *q, G **wake)
{
    Sudog *sg;
    while (*wake != NULL) {
        wake = &(*wake)->schedlink;
    }
    while ((sg = waitq_claim(q)) != NULL) {
        sg->g->schedlink = NULL;
        *wake = sg->g;
        wake = &sg->g->schedlink;
    }
}

/* Ready a list of claimed goroutines, no lock being held. */
void
goready_all(G *wake)
{
    while (wake != NULL) {
        G *g = wake;
        wake = g->schedlink;
        goready(g);
    }
}

/* Wait until g is dead.  0, or -1 with an exception. */
int
join(M *m, G *g, int64_t ns, WaitReason why)
{
    if (g->status == G_DEAD) {
        return 0;
    }
    if (may_wait(m, ns, "join", (PyObject *)g) < 0) {
        return -1;
    }
    LOCK(&g->mu);
    if (g->status == G_DEAD) {
        UNLOCK(&g->mu);
        return 0;
    }
    return wait_in(m, &g->joiners, &g->mu, ns, why, "join", (PyObject *)g);
}

/* ---- begin and end --------------------------------------------------------------------- */

void
run_release(Run *run)
{
    if (run != NULL && --run->refs == 0) {
        free(run);
    }
}

/* The code that runs now, a new reference (NULL: none), and where in it. */
PyObject *
birth_code(M *m, int *lasti)
{
    PyFrameData *f = pystate_current_frame(m->ts);
    while (f != NULL && frame_is_entry(f)) {
        f = f->previous;
    }
    if (f == NULL) {
        return NULL;
    }
    *lasti = frame_lasti(f);
    return Py_NewRef((PyObject *)frame_code(f));
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
    g->birth_code = birth_code(m, &g->birth_lasti);
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
    G *parent = current_g(m);
    g_start_for(m, g, g_shown_id(parent), parent->run);
}

/* The same on behalf of a goroutine that may be gone. */
void
g_start_for(M *m, G *g, int64_t parent_id, Run *run)
{
    M *home = m;
    g->id = COUNT(&sched.next_id, 1);
    g->parent_id = parent_id;
    if (!g->system) {
        COUNT(&sched.ngoroutines, 1);
        if (run != NULL) {
            g->run = run;
            g->run->refs++;
            COUNT(&g->run->live, 1);
        }
    }
    if (m->is_worker && sched.main != NULL) {
        g->m = home = sched.main; /* a worker waits for jobs, not for goroutines */
    }
    Py_INCREF(g);
    allgs_add(home, g);
    goready(g);
}

void
g_mark_dead(G *g)
{
    LOCK(&g->mu);
    g->status = G_DEAD;
    G *wake = NULL;
    waitq_wake_all(&g->joiners, &wake);
    UNLOCK(&g->mu);
    goready_all(wake);
}

/* Tell who waits for g, and take it off all lists. */
static void
g_retire(M *m, G *g)
{
    allgs_remove(m, g);
    if (!g->system) {
        COUNT(&sched.ngoroutines, -1);
    }
    if (g->run != NULL) {
        COUNT(&g->run->live, -1);
        run_release(g->run);
        g->run = NULL;
    }
    g_mark_dead(g);
    Py_CLEAR(g->pending);
    scope_drop(g);
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
void
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
    M *m = tls_m;
    pystate_restore_chunk(m->ts, &m->g0->ps); /* all Python frames of ours are gone */
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
    vars_end(m->ts, &g->ps, &m->vars_now, &m->vars);
    if (UNLIKELY(g->locks > 0)) { /* in Go its thread would end */
        g->locks = 0;
        procs_lock(m, -1);
    }
    if (m->ts->context != NULL) {
        PyObject *ctx = m->ts->context;
        m->ts->context = NULL;
        m->ts->context_ver++;
        Py_DECREF(ctx);
    }
}

/* As CPython does in a new thread: trace it if threads are traced. */
static NOINLINE void
begin_trace(G *g)
{
    PyObject *r = PyObject_CallNoArgs(sched.begin_trace);
    if (r == NULL) {
        PyErr_WriteUnraisable((PyObject *)g);
    }
    Py_XDECREF(r);
}

static NOINLINE void
g_execute(M *m, G *g)
{
    PyObject *r;
    if (UNLIKELY(sched.traced) && g->ps.vars != &m->vars) {
        begin_trace(g);
    }
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
        follow_loop(m, m->curg);
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
