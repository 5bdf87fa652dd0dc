/* SPDX-License-Identifier: MIT
 *
 * pool.c: the hot part of goroutines.pool.Pool: the queue and its workers.
 *
 * A worker is a goroutine that takes tasks (Futures) from the pool's queue,
 * runs them, and parks when there is none, for `idle` seconds at most.
 *
 * Who comes for a task.  Waking a worker costs a switch, which is more than a
 * small task does, so a submit wakes nobody while one is on its way to the
 * queue (p->waking).  A worker that arrives and finds more than one task sends
 * for the next worker before it begins.  So thousands of tiny tasks are run by
 * the first that comes, while a task that blocks holds up nobody: whenever it
 * parks, the next worker is on its way, until `size` of them are busy.
 *
 * Places.  A goroutine stays on its thread, where it runs when that waits in
 * the runtime.  The main thread does so sooner or later, and so does one that
 * is in run(): what they submit is run by workers of the same thread.  Other
 * threads may block elsewhere for long, or end, and one that runs an asyncio
 * loop never lets goroutines run: their tasks go to a thread that does nothing
 * else, the place AWAY.  A submit sends for workers of its place only; if that
 * would be one too many, an idle one of another place goes home (evict).
 *
 * Invariants, with p->mu held:
 *   - nworkers counts those that were started and have not left, evicted ones
 *     not; nidle the parked ones; nrunning the tasks that were taken;
 *   - if something is queued and nworkers < size, a worker is on its way;
 *   - submitted = queued + nrunning + completed + failed + cancelled;
 *   - who waits for room has its future in its Sudog; whoever makes room puts
 *     it into the queue, so nobody overtakes;
 *   - if nobody works and nothing is queued, nobody waits for the end.
 *
 * The end of a run() ends its workers, who cancel what was submitted in it and
 * has not begun; so nobody waits for what nobody will do.
 *
 * Lock order: p->mu -> a Future's mu.  Nothing is called with p->mu held.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below but delegate and name */
    bool open;
    Py_ssize_t size, max_waiting; /* max_waiting: -1: no limit */
    int64_t idle_ns;              /* -1: for ever */
    PyObject *delegate;           /* owned, constant: (future, fn, *args, **kw), or NULL */
    PyObject *name;               /* owned str, constant, or NULL */
    Future *head, *tail;          /* owned references */
    Py_ssize_t nqueued, nworkers, nidle, nrunning;
    WaitQ idlers, submitters, joiners;
    const void *waking; /* the place where a worker is on its way, or NULL */
    int64_t submitted, completed, failed, cancelled;
} Pool;

typedef struct {
    PyObject_HEAD
    Pool *pool; /* owned */
    G *g;       /* borrowed, valid while it is parked */
    const void *place;
    bool began, evicted;
    const Run *run; /* dies with it; to compare */
} Worker;

static PyTypeObject *pool_type, *worker_type;

static struct {
    PyObject *pool_full;    /* the exception */
    PyObject *start_away;   /* (worker): go(worker) in the thread for it */
    PyObject *running_loop; /* asyncio's, once that is imported */
} hooks;

/* ---- places ---------------------------------------------------------------------------- */

static const char away;
#define AWAY ((const void *)&away)
static M *away_m; /* the M of that thread, once it has run a worker */

/* Whether this thread runs an asyncio loop, which lets no goroutine run. */
static int
loop_runs_here(void)
{
    if (LIKELY(hooks.running_loop == NULL)) {
        PyObject *name = PyUnicode_InternFromString("asyncio.events");
        PyObject *mod = name != NULL ? PyImport_GetModule(name) : NULL;
        Py_XDECREF(name);
        if (LIKELY(mod == NULL)) {
            return PyErr_Occurred() ? -1 : 0;
        }
        hooks.running_loop = PyObject_GetAttrString(mod, "_get_running_loop");
        Py_DECREF(mod);
        if (hooks.running_loop == NULL) {
            PyErr_Clear(); /* it is just being imported */
            return 0;
        }
    }
    PyObject *loop = PyObject_CallNoArgs(hooks.running_loop);
    Py_XDECREF(loop);
    return loop == NULL ? -1 : loop != Py_None;
}

/* Where a task that this thread submits is to run.  NULL with an exception. */
static inline const void *
place_of(M *m)
{
    G *g = current_g(m);
    if (m == away_m || (!m->is_main && g->run == NULL)) {
        return AWAY;
    }
    int loop = sched.loops_park ? 0 : loop_runs_here();
    return loop == 0 ? m : loop > 0 ? AWAY : NULL;
}

/* ---- the queue ------------------------------------------------------------------------- */

static inline void
put(Pool *p, Future *f)
{
    Py_INCREF(f);
    f->queued = true;
    f->next = NULL;
    f->prev = p->tail;
    if (p->tail != NULL) {
        p->tail->next = f;
    }
    else {
        p->head = f;
    }
    p->tail = f;
    p->nqueued++;
    p->submitted++;
}

static inline void
unlink_task(Pool *p, Future *f)
{
    if (f->prev != NULL) {
        f->prev->next = f->next;
    }
    else {
        p->head = f->next;
    }
    if (f->next != NULL) {
        f->next->prev = f->prev;
    }
    else {
        p->tail = f->prev;
    }
    f->queued = false;
    p->nqueued--;
}

/* Whether one more may be submitted: a task that has a worker to come for it
 * does not count as waiting. */
static inline bool
has_room(Pool *p)
{
    return p->max_waiting < 0 || p->nqueued + p->nrunning < p->size + p->max_waiting;
}

/* Let in who waits for room. */
static inline void
admit(Pool *p, G **wake)
{
    Sudog *sg;
    while (UNLIKELY(p->submitters.first != NULL) && has_room(p) &&
           (sg = waitq_claim(&p->submitters)) != NULL) {
        put(p, (Future *)sg->elem);
        sg->g->schedlink = *wake;
        *wake = sg->g;
    }
}

/* A queued future was cancelled. */
void
pool_unqueue(Future *f)
{
    Pool *p = (Pool *)f->pool;
    G *wake = NULL;
    LOCK(&p->mu);
    bool queued = f->queued;
    if (queued) {
        unlink_task(p, f);
        p->cancelled++;
        admit(p, &wake);
        if (p->nworkers == 0 && p->head == NULL) {
            waitq_wake_all(&p->joiners, &wake);
        }
    }
    UNLOCK(&p->mu);
    goready_all(wake);
    if (queued) {
        Py_DECREF(f);
    }
}

/* Take what is queued away (run: only what was submitted in that), as a list
 * through `next`. */
static Future *
take_away(Pool *p, const Run *run)
{
    Future *all = NULL, **end = &all, *next;
    for (Future *f = p->head; f != NULL; f = next) {
        next = f->next;
        if (run == NULL || f->run == run) {
            unlink_task(p, f);
            p->cancelled++;
            f->next = NULL;
            *end = f;
            end = &f->next;
        }
    }
    return all;
}

/* Cancel the futures of take_away. */
static void
cancel_all(Future *f)
{
    while (f != NULL) {
        Future *next = f->next;
        News news = {0};
        if (future_settle(f, FUTURE_NOTIFIED, NULL, NULL, &news)) {
            Py_CLEAR(f->pool);
            future_drop_task(f);
            if (future_tell(f, &news) < 0) {
                PyErr_WriteUnraisable((PyObject *)f);
            }
        }
        Py_DECREF(f);
        f = next;
    }
}

/* ---- sending for workers --------------------------------------------------------------- */

/* The idle worker of `place` (NULL: any) that worked last, claimed; or NULL. */
static Worker *
claim_idler(Pool *p, const void *place)
{
    Sudog *next;
    for (Sudog *sg = p->idlers.first; sg != NULL; sg = next) {
        next = sg->next;
        Worker *w = (Worker *)sg->g->fn;
        if (place != NULL && w->place != place) {
            continue;
        }
        waitq_remove(&p->idlers, sg);
        p->nidle--;
        if (g_claim(sg->g, WAKE_READY)) {
            sg->g->fired = sg;
            return w;
        }
    }
    return NULL;
}

/* Send an idle worker home; it no longer counts.  To be readied, or NULL. */
static G *
evict(Pool *p)
{
    Worker *w = claim_idler(p, NULL);
    if (w == NULL) {
        return NULL;
    }
    w->evicted = true;
    p->nworkers--;
    return w->g;
}

static int
start_worker(M *m, Pool *p, const void *place)
{
    Worker *w = PyObject_New(Worker, worker_type);
    if (w == NULL) {
        LOCK(&p->mu);
        p->nworkers--;
        p->waking = NULL;
        UNLOCK(&p->mu);
        return -1;
    }
    w->pool = (Pool *)Py_NewRef((PyObject *)p);
    w->g = NULL;
    w->place = place;
    w->began = w->evicted = false;
    w->run = NULL;
    int r = 0;
    if (place == AWAY && m != away_m) {
        PyObject *done = PyObject_CallOneArg(hooks.start_away, (PyObject *)w);
        r = done == NULL ? -1 : 0;
        Py_XDECREF(done);
    }
    else {
        G *parent = current_g(m);
        G *g = g_new(m, (PyObject *)w, NULL, 0, NULL);
        r = g == NULL ? -1 : 0;
        if (g != NULL) {
            Py_CLEAR(g->ps.context); /* tasks bring theirs */
            w->run = parent->run;
            g_start(m, g);
            Py_DECREF(g);
        }
    }
    Py_DECREF(w); /* one that was not started is discounted here */
    return r;
}

/* See to it that a worker comes for what is queued.  p->mu is held, and given
 * up.  -1 with an exception. */
static int
dispatch(M *m, Pool *p, const void *place)
{
    G *wake = NULL, *home = NULL;
    bool start = false;
    if (p->head != NULL && p->waking != place) {
        Worker *w = claim_idler(p, place);
        if (w != NULL) {
            wake = w->g;
        }
        else {
            home = p->nworkers >= p->size ? evict(p) : NULL;
            start = p->nworkers < p->size;
            p->nworkers += start;
        }
        if (start || wake != NULL) {
            p->waking = place;
        }
    }
    UNLOCK(&p->mu);
    if (home != NULL) {
        goready(home);
    }
    if (wake != NULL) {
        goready(wake);
    }
    return start ? start_worker(m, p, place) : 0;
}

/* ---- the worker -------------------------------------------------------------------------- */

/* A worker that was on its way is here. */
static inline void
arrive(Worker *w)
{
    if (w->pool->waking == w->place) {
        w->pool->waking = NULL;
    }
}

static void
begin(M *m, Worker *w)
{
    arrive(w);
    w->began = true;
    w->g = m->curg;
    if (w->place == AWAY) {
        away_m = m;
    }
    else {
        w->place = m; /* that of its first thread, if that ended before it began */
    }
    if (w->pool->name != NULL && w->g->name == NULL) {
        w->g->name = Py_NewRef(w->pool->name);
    }
}

/* Park until there is work.  False: there was none for so long.  p->mu is held
 * before and after. */
static bool
wait_for_work(M *m, Worker *w)
{
    Pool *p = w->pool;
    G *g = w->g;
    if (p->idle_ns == 0) {
        return false;
    }
    g_will_wait(g);
    Sudog *sg = &g->sg;
    waitq_push(&p->idlers, sg);
    if (sg->prev != NULL) { /* who worked last is woken first: the others may leave */
        sg->prev->next = NULL;
        p->idlers.last = sg->prev;
        sg->prev = NULL;
        sg->next = p->idlers.first;
        sg->next->prev = sg;
        p->idlers.first = sg;
    }
    p->nidle++;
    UNLOCK(&p->mu);
    Wake how = gopark(m, g, p->idle_ns, WAIT_POOL_IDLE);
    LOCK(&p->mu);
    if (sg->queued) {
        waitq_remove(&p->idlers, sg);
        p->nidle--;
    }
    if (how == WAKE_READY) {
        arrive(w);
    }
    return how == WAKE_READY;
}

/* Count the end of a task, which makes room for another. */
static void
count_end(Pool *p, int64_t *counter)
{
    G *wake = NULL;
    LOCK(&p->mu);
    p->nrunning--;
    ++*counter;
    admit(p, &wake);
    UNLOCK(&p->mu);
    goready_all(wake);
}

/* Run the task that was just taken.  p->mu is held before and after.  -1 with
 * what a callback raised. */
static int
serve(M *m, Worker *w, Future *f)
{
    Pool *p = w->pool;
    if (dispatch(m, p, w->place) < 0) {
        PyErr_WriteUnraisable((PyObject *)p);
    }
    int r = 0;
    if (LIKELY(future_begin(f))) {
        News news = {0};
        PyObject *exc, *result = future_run_task(m, f, p->delegate, &exc);
        FutureState state = FUTURE_FINISHED;
        if (UNLIKELY(p->delegate != NULL && exc != NULL && future_is_cancelled_error(exc))) {
            state = FUTURE_NOTIFIED; /* as the executor's is */
            Py_CLEAR(exc);
        }
        int64_t *counter = state == FUTURE_NOTIFIED ? &p->cancelled
                           : exc != NULL            ? &p->failed
                                                    : &p->completed;
        count_end(p, counter); /* before anybody hears of it */
        Py_CLEAR(f->pool);
        if (UNLIKELY(!future_settle(f, state, result, exc, &news))) {
            LOCK(&p->mu); /* cancelled through its executor just now */
            --*counter;
            p->cancelled++;
            UNLOCK(&p->mu);
            Py_XDECREF(result);
            Py_XDECREF(exc);
        }
        r = future_tell(f, &news);
    }
    else {
        count_end(p, &p->cancelled);
    }
    Py_DECREF(f);
    LOCK(&p->mu);
    return r;
}

/* A worker is no more.  run: the one that is over, and it and its tasks with
 * it, or NULL.  p->mu is held, and given up. */
static void
leave(Pool *p, const Run *run)
{
    Future *orphans = run != NULL ? take_away(p, run) : NULL;
    G *wake = NULL;
    p->nworkers--;
    admit(p, &wake);
    if (p->nworkers == 0 && p->head == NULL) {
        waitq_wake_all(&p->joiners, &wake);
    }
    UNLOCK(&p->mu);
    goready_all(wake);
    cancel_all(orphans);
}

/* The end of a worker's goroutine.  p->mu is held, and given up. */
static void
leave_for_good(M *m, Worker *w)
{
    Pool *p = w->pool;
    bool exits = w->g->exiting;
    if (w->evicted) {
        UNLOCK(&p->mu);
        return;
    }
    leave(p, exits ? w->g->run : NULL);
    LOCK(&p->mu);
    if (dispatch(m, p, exits ? AWAY : w->place) < 0) {
        PyErr_WriteUnraisable((PyObject *)p);
    }
}

/* The function of a worker's goroutine. */
static PyObject *
Worker_call(Worker *w, PyObject *args, PyObject *kwargs)
{
    M *m = tls_m;
    Pool *p = w->pool;
    int r = 0;
    bool bored = false;
    (void)args;
    (void)kwargs;
    if (w->began) {
        PyErr_SetString(PyExc_RuntimeError, "a pool's worker runs once");
        return NULL;
    }
    LOCK(&p->mu);
    begin(m, w);
    while (r == 0 && !w->evicted && !w->g->exiting && p->nworkers <= p->size) {
        Future *f = p->head;
        if (f != NULL) {
            unlink_task(p, f);
            p->nrunning++;
            r = serve(m, w, f);
            bored = false;
        }
        else if (bored || !p->open) {
            break;
        }
        else {
            bored = !wait_for_work(m, w);
        }
    }
    PyObject *raised = r < 0 ? take_raised() : NULL;
    leave_for_good(m, w);
    if (raised != NULL) {
        set_raised(raised);
        return NULL;
    }
    Py_RETURN_NONE;
}

static void
Worker_dealloc(Worker *w)
{
    PyTypeObject *type = Py_TYPE(w);
    if (!w->began) { /* its run ended before it began, or it could not be started */
        PyObject *raised = take_raised();
        LOCK(&w->pool->mu);
        arrive(w);
        leave(w->pool, w->run);
        if (w->run != NULL && tls_m != NULL) {
            LOCK(&w->pool->mu);
            if (dispatch(tls_m, w->pool, AWAY) < 0) {
                PyErr_WriteUnraisable((PyObject *)w->pool);
            }
        }
        if (raised != NULL) {
            set_raised(raised);
        }
    }
    Py_DECREF(w->pool);
    type->tp_free(w);
    Py_DECREF(type);
}

/* ---- submit ------------------------------------------------------------------------------- */

static int
not_open(Pool *p, const char *op)
{
    PyErr_Format(PyExc_RuntimeError, "%s: cannot take a new task after shutdown: %R", op, p);
    return -1;
}

/* Wait until somebody puts f into the queue.  p->mu is held, and given up. */
static int
wait_for_room(M *m, Pool *p, Future *f)
{
    G *g = m->curg;
    g_will_wait(g);
    g->sg.elem = (PyObject *)f;
    g->sg.closed = false;
    waitq_push(&p->submitters, &g->sg);
    UNLOCK(&p->mu);
    Wake how = gopark(m, g, -1, WAIT_POOL_ROOM);
    if (how != WAKE_READY) {
        LOCK(&p->mu);
        waitq_remove(&p->submitters, &g->sg);
        UNLOCK(&p->mu);
    }
    bool closed = g->sg.closed;
    g->sg.elem = NULL;
    g->sg.closed = false;
    if (how != WAKE_READY) {
        return wake_error(g, how, "submit", (PyObject *)p);
    }
    return closed ? not_open(p, "submit") : 0;
}

/* Queue f where there is no room: wait, or raise.  p->mu is held, and again
 * when the answer is 0. */
static NOINLINE int
queue_later(M *m, Pool *p, Future *f, bool wait)
{
    UNLOCK(&p->mu);
    if (!wait) {
        PyErr_Format(hooks.pool_full, "try_submit: %zd tasks wait already: %R", p->max_waiting, p);
        return -1;
    }
    if (may_wait(m, -1, "submit", (PyObject *)p) < 0) {
        return -1;
    }
    LOCK(&p->mu);
    if (!p->open) {
        UNLOCK(&p->mu);
        return not_open(p, "submit");
    }
    if (has_room(p) && !waitq_has_waiter(&p->submitters)) {
        put(p, f);
        return 0;
    }
    if (wait_for_room(m, p, f) < 0) {
        return -1;
    }
    LOCK(&p->mu);
    return 0;
}

static int
queue_task(M *m, Pool *p, Future *f, bool wait)
{
    const void *place = place_of(m);
    if (place == NULL) {
        return -1;
    }
    LOCK(&p->mu);
    if (UNLIKELY(!p->open)) {
        UNLOCK(&p->mu);
        return not_open(p, wait ? "submit" : "try_submit");
    }
    if (LIKELY(has_room(p) && !waitq_has_waiter(&p->submitters))) {
        put(p, f);
    }
    else if (queue_later(m, p, f, wait) < 0) {
        return -1;
    }
    if (UNLIKELY(dispatch(m, p, place) < 0)) {
        PyObject *raised = take_raised(); /* no worker can be started: not accepted */
        LOCK(&p->mu);
        bool taken = !f->queued;
        if (!taken) {
            unlink_task(p, f);
            p->submitted--;
        }
        UNLOCK(&p->mu);
        if (taken) { /* by one that there is */
            Py_DECREF(raised);
            return 0;
        }
        Py_DECREF(f);
        set_raised(raised);
        return -1;
    }
    return 0;
}

static inline PyObject *
pool_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, bool wait)
{
    Pool *p = (Pool *)self;
    M *m = getm();
    PyObject *fn = callable_arg(wait ? "Pool.submit" : "Pool.try_submit", args, nargs);
    if (m == NULL || fn == NULL) {
        return NULL;
    }
    Future *f = future_new_task(m, fn, args + 1, nargs - 1, kwnames);
    if (f == NULL) {
        return NULL;
    }
    f->pool = Py_NewRef(self);
    f->run = current_g(m)->run;
    if (queue_task(m, p, f, wait) < 0) {
        Py_CLEAR(f->pool);
        Py_DECREF(f);
        return NULL;
    }
    return (PyObject *)f;
}

static PyObject *
Pool_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return pool_submit(self, args, nargs, kwnames, true);
}

static PyObject *
Pool_try_submit(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return pool_submit(self, args, nargs, kwnames, false);
}

/* ---- resize, shutdown --------------------------------------------------------------------- */

static int
count_arg(PyObject *o, const char *what, Py_ssize_t least, Py_ssize_t *n)
{
    if (!PyLong_Check(o)) {
        PyErr_Format(PyExc_TypeError, "Pool: %s must be an int, not %.100s", what,
                     Py_TYPE(o)->tp_name);
        return -1;
    }
    *n = PyLong_AsSsize_t(o);
    if (*n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (*n < least || *n > PY_SSIZE_T_MAX / 4) {
        PyErr_Format(PyExc_ValueError, "Pool: %s must be at least %zd, not %R", what, least, o);
        return -1;
    }
    return 0;
}

static PyObject *
Pool_resize(Pool *p, PyObject *arg)
{
    Py_ssize_t size;
    M *m = getm();
    if (m == NULL || count_arg(arg, "size", 1, &size) < 0) {
        return NULL;
    }
    const void *place = place_of(m);
    if (place == NULL) {
        return NULL;
    }
    G *wake = NULL, *home;
    LOCK(&p->mu);
    p->size = size;
    admit(p, &wake);
    while (p->nworkers > size && (home = evict(p)) != NULL) {
        home->schedlink = wake;
        wake = home;
    }
    int r = dispatch(m, p, place);
    goready_all(wake);
    if (r < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Close the pool: who is idle leaves, who waits for room is refused. */
static void
pool_close(Pool *p, bool cancel)
{
    G *wake = NULL;
    Sudog *sg;
    Worker *w;
    Future *orphans = NULL;
    LOCK(&p->mu);
    p->open = false;
    while ((sg = waitq_claim(&p->submitters)) != NULL) {
        sg->closed = true;
        sg->g->schedlink = wake;
        wake = sg->g;
    }
    if (cancel) {
        orphans = take_away(p, NULL);
    }
    while ((w = claim_idler(p, NULL)) != NULL) {
        w->g->schedlink = wake;
        wake = w->g;
    }
    if (p->nworkers == 0 && p->head == NULL) {
        waitq_wake_all(&p->joiners, &wake);
    }
    UNLOCK(&p->mu);
    goready_all(wake);
    cancel_all(orphans);
}

static int
wait_for_the_end(M *m, Pool *p)
{
    const void *place = place_of(m);
    if (place == NULL || may_wait(m, -1, "shutdown", (PyObject *)p) < 0) {
        return -1;
    }
    LOCK(&p->mu);
    if (dispatch(m, p, place) < 0) { /* were they ended, they are needed once more */
        return -1;
    }
    LOCK(&p->mu);
    if (p->nworkers == 0 && p->head == NULL) {
        UNLOCK(&p->mu);
        return 0;
    }
    return wait_in(m, &p->joiners, &p->mu, -1, WAIT_POOL_END, "shutdown", (PyObject *)p);
}

static PyObject *
Pool_shutdown(Pool *p, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"wait", "cancel_futures", NULL};
    int wait = 1, cancel = 0;
    M *m = getm();
    if (m == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|p$p:shutdown", names, &wait, &cancel)) {
        return NULL;
    }
    PyObject *fn = m->curg != NULL ? m->curg->fn : NULL;
    if (wait && fn != NULL && Py_TYPE(fn) == worker_type && ((Worker *)fn)->pool == p) {
        PyErr_Format(PyExc_RuntimeError,
                     "shutdown: a task of %R cannot wait for its own end; use wait=False", p);
        return NULL;
    }
    pool_close(p, cancel);
    if (wait && wait_for_the_end(m, p) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- the Python face ------------------------------------------------------------------------- */

static int
Pool_init(Pool *p, PyObject *args, PyObject *kwargs)
{
    PyObject *size, *waiting, *idle, *delegate, *name;
    Py_ssize_t nsize, nwaiting = -1;
    int64_t ns;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOOO:Pool", &size, &waiting, &idle, &delegate, &name) ||
        count_arg(size, "size", 1, &nsize) < 0 ||
        (waiting != Py_None && count_arg(waiting, "max_waiting", 0, &nwaiting) < 0) ||
        seconds_arg(idle, "Pool: idle", &ns) < 0) {
        return -1;
    }
    if (p->size != 0) {
        PyErr_Format(PyExc_RuntimeError, "cannot be initialised twice: %R", p);
        return -1;
    }
    p->size = nsize;
    p->max_waiting = nwaiting;
    p->idle_ns = ns == FOREVER ? -1 : ns;
    p->delegate = delegate != Py_None ? Py_NewRef(delegate) : NULL;
    p->name = name != Py_None ? Py_NewRef(name) : NULL;
    p->open = true;
    return 0;
}

static PyObject *
Pool_counts(Pool *p, PyObject *unused)
{
    (void)unused;
    LOCK(&p->mu);
    int64_t n[] = {p->submitted, p->completed, p->failed, p->cancelled};
    UNLOCK(&p->mu);
    return Py_BuildValue("LLLL", (long long)n[0], (long long)n[1], (long long)n[2],
                         (long long)n[3]);
}

static PyObject *
Pool_repr(Pool *p)
{
    PyObject *name =
        p->name != NULL ? PyUnicode_FromFormat(" %R", p->name) : PyUnicode_FromString("");
    if (name == NULL) {
        return NULL;
    }
    PyObject *r = PyUnicode_FromFormat("<Pool%U size=%zd running=%zd idle=%zd waiting=%zd%s at %p>",
                                       name, p->size, p->nrunning, p->nidle, p->nqueued,
                                       p->open ? "" : " shut down", p);
    Py_DECREF(name);
    return r;
}

static int
Pool_traverse(Pool *p, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(p));
    Py_VISIT(p->delegate);
    for (Future *f = p->head; f != NULL; f = f->next) {
        Py_VISIT(f);
    }
    return 0;
}

static int
Pool_clear(Pool *p)
{
    Future *f = p->nworkers == 0 ? take_away(p, NULL) : NULL;
    while (f != NULL) {
        Future *next = f->next;
        Py_DECREF(f);
        f = next;
    }
    Py_CLEAR(p->delegate);
    return 0;
}

static void
Pool_dealloc(Pool *p)
{
    PyTypeObject *type = Py_TYPE(p);
    PyObject_GC_UnTrack(p);
    Pool_clear(p);
    Py_CLEAR(p->name);
    type->tp_free(p);
    Py_DECREF(type);
}

static PyMethodDef pool_methods[] = {
    METHOD("submit", Pool_submit, FASTKW,
           PyDoc_STR("submit($self, fn, /, *args, **kwargs)\n--\n\n"
                     "Have a goroutine of the pool call fn(*args, **kwargs); return its Future.\n\n"
                     "Parks the caller while max_waiting tasks wait.  A copy of the caller's\n"
                     "contextvars goes along.  Raises TypeError if fn is not callable,\n"
                     "RuntimeError after shutdown.")),
    METHOD("try_submit", Pool_try_submit, FASTKW,
           PyDoc_STR("try_submit($self, fn, /, *args, **kwargs)\n--\n\n"
                     "As submit, but raise PoolFull where that would wait.")),
    METHOD("resize", Pool_resize, METH_O,
           PyDoc_STR("resize($self, size, /)\n--\n\n"
                     "Let at most `size` goroutines work from now on.  More begin at once if\n"
                     "tasks wait; of too many, the idle ones leave, the others after the task\n"
                     "that they are at.  Raises ValueError unless size >= 1.")),
    METHOD("shutdown", Pool_shutdown, METH_VARARGS | METH_KEYWORDS,
           PyDoc_STR("shutdown($self, wait=True, *, cancel_futures=False)\n--\n\n"
                     "Take no more tasks; what was accepted still runs.\n\n"
                     "With wait, return when all goroutines of the pool have left; with\n"
                     "cancel_futures, cancel what has not begun.  May be called again.  Raises\n"
                     "RuntimeError if a task of the pool would wait for itself.")),
    METHOD("_counts", Pool_counts, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef pool_members[] = {
    {"size", T_PYSSIZET, offsetof(Pool, size), READONLY,
     PyDoc_STR("How many goroutines may work.")},
    {"running", T_PYSSIZET, offsetof(Pool, nrunning), READONLY, PyDoc_STR("How many tasks run.")},
    {"idle", T_PYSSIZET, offsetof(Pool, nidle), READONLY,
     PyDoc_STR("How many goroutines wait for a task.")},
    {"waiting", T_PYSSIZET, offsetof(Pool, nqueued), READONLY,
     PyDoc_STR("How many tasks have not begun.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot pool_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The core of goroutines.pool.Pool.")},
    {Py_tp_init, Pool_init},
    {Py_tp_traverse, Pool_traverse},
    {Py_tp_clear, Pool_clear},
    {Py_tp_dealloc, Pool_dealloc},
    {Py_tp_repr, Pool_repr},
    {Py_tp_methods, pool_methods},
    {Py_tp_members, pool_members},
    {0, NULL},
};

static PyType_Spec pool_spec = {
    .name = "goroutines._runtime.Pool",
    .basicsize = sizeof(Pool),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

static PyType_Slot worker_slots[] = {
    {Py_tp_dealloc, Worker_dealloc},
    {Py_tp_call, Worker_call},
    {0, NULL},
};

static PyType_Spec worker_spec = {
    .name = "goroutines._runtime.PoolWorker",
    .basicsize = sizeof(Worker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = worker_slots,
};

PyObject *
pool_set_full(PyObject *mod, PyObject *exception)
{
    (void)mod;
    Py_XSETREF(hooks.pool_full, Py_NewRef(exception));
    Py_RETURN_NONE;
}

PyObject *
pool_set_away_hook(PyObject *mod, PyObject *start)
{
    (void)mod;
    Py_XSETREF(hooks.start_away, Py_NewRef(start));
    Py_RETURN_NONE;
}

/* For a Group's tasks: go(fn), but AWAY from an asyncio loop. */
PyObject *
pool_go_where_it_runs(PyObject *mod, PyObject *fn)
{
    M *m = getm();
    (void)mod;
    if (m == NULL || may_start(fn) < 0) {
        return NULL;
    }
    int loop = loop_runs_here();
    if (loop != 0) {
        return loop < 0 ? NULL : PyObject_CallOneArg(hooks.start_away, fn);
    }
    G *g = g_new(m, fn, NULL, 0, NULL);
    if (g == NULL) {
        return NULL;
    }
    Py_CLEAR(g->ps.context); /* the task brings its own */
    g_start(m, g);
    Py_DECREF(g);
    Py_RETURN_NONE;
}

int
pool_add_types(PyObject *mod)
{
    pool_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &pool_spec, NULL);
    worker_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &worker_spec, NULL);
    return pool_type == NULL || worker_type == NULL
               ? -1
               : PyModule_AddObjectRef(mod, "Pool", (PyObject *)pool_type);
}
