/* SPDX-License-Identifier: MIT
 *
 * native.c: CPython's own locks and SimpleQueue, made to park.
 *
 * Locks that were made before patch() are everywhere: in modules, closures,
 * containers, and their methods bound long ago.  So not they are exchanged but
 * what their methods do: the C functions in the method tables of _thread.lock,
 * _thread.RLock and _queue.SimpleQueue are replaced by those below.  CPython's
 * object remains the truth, and its own functions are called, but never to wait.
 *
 * An object has a Shadow while goroutines wait for it, an RLock also while a
 * goroutine holds it: to CPython all goroutines of a thread are one owner.
 * Whoever releases a lock, or puts something, wakes the first waiter, which tries
 * again.
 *
 * Locks are also released by C code, which tells nobody: a real thread's, when it
 * ends.  So beside other threads a waiter looks again every LOOK_AGAIN.
 *
 * The tables are those of subinterpreters too, which have no goroutines: there
 * CPython's own functions do all (is_elsewhere).
 *
 * Invariants, with table.mu held:
 *   - a Shadow has waiters, or users, or (an RLock's) an owner;
 *   - it owns a reference to its object, so that no other has its address.
 */
#include "runtime.h"

#define LOOK_AGAIN ((int64_t)20 * 1000000)
#define BUCKETS 256

typedef struct Shadow {
    struct Shadow *next;
    PyObject *lock; /* owned */
    WaitQ waiters;
    Py_ssize_t users; /* goroutines between a look and a park, or back */
    int64_t owner;    /* of an RLock: G.id; 0: nobody that we know of */
    Py_ssize_t count; /* how often the owner has it */
} Shadow;

static struct {
    Lock mu;
    Shadow *buckets[BUCKETS];
} table;

/* CPython's own functions, as they were in the method tables. */
typedef struct {
    PyCFunction acquire, release, is_owned, recursion_count, release_save, acquire_restore,
        at_fork_reinit;
    int acquire_flags, restore_flags;
} Native;

typedef PyObject *(*FastKw)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *);

static Native native_lock, native_rlock;
static PyObject *not_blocking; /* (False,) */
static int64_t patcher;        /* id of who called patch() */

/* Called in a subinterpreter. */
static inline bool
is_elsewhere(void)
{
    return UNLIKELY(PyThreadState_Get()->interp != PyInterpreterState_Main());
}

/* ---- CPython's functions ----------------------------------------------------------- */

static PyObject *
native_acquire(const Native *n, PyObject *lock, PyObject *args_tuple)
{
    if (n->acquire_flags & METH_VARARGS) {
        return ((PyCFunctionWithKeywords)(void (*)(void))n->acquire)(lock, args_tuple, NULL);
    }
    return ((FastKw)(void (*)(void))n->acquire)(lock, &PyTuple_GET_ITEM(args_tuple, 0),
                                                PyTuple_GET_SIZE(args_tuple), NULL);
}

/* 1: taken, 0: not free, -1 with an exception. */
static int
native_try(const Native *n, PyObject *lock)
{
    PyObject *r = native_acquire(n, lock, not_blocking);
    if (r == NULL) {
        return -1;
    }
    Py_DECREF(r);
    return r == Py_True;
}

static int
native_release(const Native *n, PyObject *lock)
{
    PyObject *r = n->release(lock, NULL);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* ---- the table of shadows ------------------------------------------------------------- */

static Shadow **
shadow_link(PyObject *lock)
{
    Shadow **link = &table.buckets[((uintptr_t)lock >> 5) % BUCKETS];
    while (*link != NULL && (*link)->lock != lock) {
        link = &(*link)->next;
    }
    return link;
}

/* table.mu is held.  NULL: no memory. */
static Shadow *
shadow_make(PyObject *lock)
{
    Shadow **link = shadow_link(lock);
    if (*link == NULL && (*link = calloc(1, sizeof(Shadow))) != NULL) {
        (*link)->lock = Py_NewRef(lock);
    }
    return *link;
}

/* table.mu is held; the caller's reference keeps the lock. */
static void
shadow_drop_unused(Shadow *s)
{
    if (s->waiters.first == NULL && s->users == 0 && s->owner == 0) {
        *shadow_link(s->lock) = s->next;
        Py_DECREF(s->lock);
        free(s);
    }
}

static void
wake_first(PyObject *lock)
{
    Sudog *sg = NULL;
    LOCK(&table.mu);
    Shadow *s = *shadow_link(lock);
    if (s != NULL) {
        sg = waitq_claim(&s->waiters);
    }
    UNLOCK(&table.mu);
    if (sg != NULL) {
        goready(sg->g);
    }
}

/* ---- waiting ------------------------------------------------------------------------------ */

/* What a waiter does when it is its turn, with table.mu held: 1: it has what it
 * waits for, 0: not yet, -1 with an exception. */
typedef struct Want {
    int (*take)(const struct Want *w, Shadow *s, G *g);
    const Native *native; /* a lock's */
    Py_ssize_t count;     /* how often to have an RLock */
    WaitReason why;
    bool told; /* of whatever makes it ready */
} Want;

/* CPython says that this thread owns the RLock, and we know of nobody: it was
 * taken before patch(), by who then called that. */
static bool
held_since_before(PyObject *lock, G *g)
{
    if (g->id == patcher) {
        return false;
    }
    PyObject *r = native_rlock.is_owned(lock, NULL);
    if (r == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(r);
    return r == Py_True;
}

static int
take_lock(const Want *w, Shadow *s, G *g)
{
    const Native *n = w->native;
    bool reentrant = n == &native_rlock;
    if (reentrant && s->owner == g->id) {
        s->count += w->count;
        return 1;
    }
    if (s->owner != 0 || (reentrant && held_since_before(s->lock, g))) {
        return 0;
    }
    int r = native_try(n, s->lock);
    if (r == 1 && reentrant) {
        s->owner = g->id;
        s->count = w->count;
    }
    return r;
}

/* One turn: 1: taken, 0: try again, or the time is out, -1. */
static int
wait_turn(M *m, const Want *w, Shadow *s, int64_t left, bool again)
{
    G *g = m->curg;
    if (park_check(m, g) < 0) {
        return -1;
    }
    LOCK(&table.mu);
    int r = w->take(w, s, g);
    if (r != 0 || left == 0) {
        UNLOCK(&table.mu);
        return r;
    }
    g_will_wait(g);
    if (again) {
        waitq_push_front(&s->waiters, &g->sg);
    }
    else {
        waitq_push(&s->waiters, &g->sg);
    }
    UNLOCK(&table.mu);
    if (!w->told && has_other_threads(m->ts) && (left < 0 || left > LOOK_AGAIN)) {
        left = LOOK_AGAIN;
    }
    Wake how = gopark(m, g, left, w->why);
    if (how == WAKE_READY) {
        return 0;
    }
    LOCK(&table.mu);
    waitq_remove(&s->waiters, &g->sg);
    UNLOCK(&table.mu);
    return how == WAKE_TIMEOUT ? 0 : wake_error(g, how, "wait", NULL);
}

static int
wait_turns(M *m, const Want *w, Shadow *s, int64_t ns)
{
    int64_t began = ns > 0 ? clock_now() : 0, left = ns;
    for (bool again = false;; again = true) {
        int r = wait_turn(m, w, s, left, again);
        if (r != 0 || left == 0) {
            return r;
        }
        left = time_left(ns, began);
    }
}

/* Take what is wanted of o, at most after ns: 1: done, 0: not in time, -1. */
static NOINLINE int
wait_for(M *m, const Want *w, PyObject *o, int64_t ns)
{
    LOCK(&table.mu);
    Shadow *s = shadow_make(o);
    if (s == NULL) {
        UNLOCK(&table.mu);
        PyErr_NoMemory();
        return -1;
    }
    s->users++;
    int r = w->take(w, s, current_g(m));
    UNLOCK(&table.mu);
    if (r == 0 && ns != 0) {
        r = wait_turns(m, w, s, ns);
    }
    if (r < 0) {
        wake_first(o); /* we may be the one that a release woke */
    }
    LOCK(&table.mu);
    s->users--;
    shadow_drop_unused(s);
    UNLOCK(&table.mu);
    return r;
}

/* 1: it is ours, 0: not in time, -1 with an exception. */
static int
acquire(M *m, const Native *n, PyObject *lock, Py_ssize_t count, int64_t ns)
{
    bool reentrant = n == &native_rlock;
    int r = reentrant ? 0 : native_try(n, lock);
    if (r != 0 || (ns == 0 && !reentrant)) {
        return r;
    }
    Want w = {take_lock, n, count, reentrant ? WAIT_THREAD_RLOCK : WAIT_THREAD_LOCK, false};
    return wait_for(m, &w, lock, ns);
}

/* Where goroutines wait no more, or there are none. */
static PyObject *
acquire_natively(const Native *n, PyObject *lock, int64_t ns)
{
    PyObject *args = ns == 0 ? Py_NewRef(not_blocking)
                             : Py_BuildValue("(Od)", Py_True, ns < 0 ? -1.0 : (double)ns * 1e-9);
    PyObject *r = args != NULL ? native_acquire(n, lock, args) : NULL;
    Py_XDECREF(args);
    return r;
}

/* ---- arguments ---------------------------------------------------------------------------- */

static PyObject *
acquire_with(const Native *n, PyObject *lock, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"blocking", "timeout", NULL};
    int block = 1;
    PyObject *timeout = NULL;
    int64_t ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pO:acquire", names, &block, &timeout) ||
        lock_timeout(block, timeout, &ns) < 0) {
        return NULL;
    }
    if (is_elsewhere() || (UNLIKELY(sched.finalizing) && interpreter_finalizing())) {
        return acquire_natively(n, lock, ns);
    }
    M *m = getm();
    if (m == NULL) {
        return NULL;
    }
    int r = acquire(m, n, lock, 1, ns);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *
acquire_fast(const Native *n, PyObject *lock, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    PyObject *tuple = PyTuple_New(nargs), *kwargs = kwnames != NULL ? PyDict_New() : NULL;
    bool ok = tuple != NULL && (kwnames == NULL || kwargs != NULL);
    for (Py_ssize_t i = 0; ok && i < nargs; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    }
    for (Py_ssize_t i = 0; ok && kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        ok = PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i), args[nargs + i]) == 0;
    }
    PyObject *r = ok ? acquire_with(n, lock, tuple, kwargs) : NULL;
    Py_XDECREF(tuple);
    Py_XDECREF(kwargs);
    return r;
}

/* ---- _thread.lock ------------------------------------------------------------------------- */

static PyObject *
lock_acquire_va(PyObject *lock, PyObject *args, PyObject *kwargs)
{
    return acquire_with(&native_lock, lock, args, kwargs);
}

static PyObject *
lock_acquire_fast(PyObject *lock, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return acquire_fast(&native_lock, lock, args, nargs, kwnames);
}

static PyObject *
lock_enter(PyObject *lock, PyObject *unused)
{
    (void)unused;
    return acquire_fast(&native_lock, lock, NULL, 0, NULL);
}

static PyObject *
lock_release(PyObject *lock, PyObject *unused)
{
    (void)unused;
    if (native_release(&native_lock, lock) < 0) {
        return NULL;
    }
    if (!is_elsewhere()) {
        wake_first(lock);
    }
    Py_RETURN_NONE;
}

static PyObject *
lock_exit_fast(PyObject *lock, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return lock_release(lock, NULL);
}

/* ---- _thread.RLock -------------------------------------------------------------------------- */

static PyObject *
rlock_acquire_va(PyObject *lock, PyObject *args, PyObject *kwargs)
{
    return acquire_with(&native_rlock, lock, args, kwargs);
}

static PyObject *
rlock_acquire_fast(PyObject *lock, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return acquire_fast(&native_rlock, lock, args, nargs, kwnames);
}

static PyObject *
rlock_enter(PyObject *lock, PyObject *unused)
{
    (void)unused;
    return acquire_fast(&native_rlock, lock, NULL, 0, NULL);
}

/* Give up `count` holds of the running goroutine (-1: all): how many it has had.
 * 0: none that we know of; it may be held since before patch(). */
static Py_ssize_t
rlock_give_up(PyObject *lock, Py_ssize_t count, int64_t *owner)
{
    *owner = 0;
    if (is_elsewhere()) {
        return 0;
    }
    M *m = getm();
    LOCK(&table.mu);
    Shadow *s = *shadow_link(lock);
    *owner = s != NULL ? s->owner : 0;
    if (m == NULL || s == NULL || s->owner != current_g(m)->id) {
        UNLOCK(&table.mu);
        return 0;
    }
    Py_ssize_t had = s->count;
    s->count = count < 0 ? 0 : had - count;
    if (s->count == 0) {
        s->owner = 0;
        if (native_release(&native_rlock, lock) < 0) {
            PyErr_WriteUnraisable(lock);
        }
    }
    shadow_drop_unused(s);
    UNLOCK(&table.mu);
    return had;
}

static PyObject *
rlock_release(PyObject *lock, PyObject *unused)
{
    int64_t owner;
    (void)unused;
    if (rlock_give_up(lock, 1, &owner) == 0) {
        if (owner != 0) {
            PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
            return NULL;
        }
        if (native_release(&native_rlock, lock) < 0) {
            return NULL;
        }
    }
    if (!is_elsewhere()) {
        wake_first(lock);
    }
    Py_RETURN_NONE;
}

static PyObject *
rlock_exit_fast(PyObject *lock, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return rlock_release(lock, NULL);
}

/* How often the running goroutine has it; -1: CPython knows, it has no Shadow. */
static Py_ssize_t
rlock_holds(PyObject *lock)
{
    if (is_elsewhere()) {
        return -1;
    }
    M *m = getm();
    LOCK(&table.mu);
    Shadow *s = *shadow_link(lock);
    Py_ssize_t n = s == NULL || s->owner == 0                  ? -1
                   : m != NULL && s->owner == current_g(m)->id ? s->count
                                                               : 0;
    UNLOCK(&table.mu);
    return n;
}

static PyObject *
rlock_is_owned(PyObject *lock, PyObject *unused)
{
    Py_ssize_t n = rlock_holds(lock);
    return n < 0 ? native_rlock.is_owned(lock, unused) : PyBool_FromLong(n > 0);
}

static PyObject *
rlock_recursion_count(PyObject *lock, PyObject *unused)
{
    Py_ssize_t n = rlock_holds(lock);
    return n < 0 ? native_rlock.recursion_count(lock, unused) : PyLong_FromSsize_t(n);
}

static PyObject *
rlock_release_save(PyObject *lock, PyObject *unused)
{
    int64_t owner;
    Py_ssize_t had = rlock_give_up(lock, -1, &owner);
    PyObject *state = NULL;
    if (had > 0) {
        state = Py_BuildValue("nL", had, (long long)owner);
    }
    else if (owner != 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
    }
    else {
        state = native_rlock.release_save(lock, unused);
    }
    if (state != NULL && !is_elsewhere()) {
        wake_first(lock);
    }
    return state;
}

static PyObject *
restore_natively(PyObject *lock, PyObject *state)
{
    if (native_rlock.restore_flags == METH_O) {
        return native_rlock.acquire_restore(lock, state);
    }
    PyObject *args = PyTuple_Pack(1, state);
    PyObject *r = args != NULL ? native_rlock.acquire_restore(lock, args) : NULL;
    Py_XDECREF(args);
    return r;
}

static PyObject *
rlock_acquire_restore(PyObject *lock, PyObject *state)
{
    if (is_elsewhere()) {
        return restore_natively(lock, state);
    }
    M *m = getm();
    Py_ssize_t count;
    PyObject *owner;
    if (m == NULL || !PyArg_ParseTuple(state, "nO:_acquire_restore", &count, &owner)) {
        return NULL;
    }
    G *g = current_g(m);
    bool was = g_insist(g, true); /* a Condition must have its lock back */
    int r = acquire(m, &native_rlock, lock, count, -1);
    g_insist(g, was);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
rlock_acquire_restore_va(PyObject *lock, PyObject *args)
{
    PyObject *state;
    return PyArg_ParseTuple(args, "O:_acquire_restore", &state) ? rlock_acquire_restore(lock, state)
                                                                : NULL;
}

/* ---- _queue.SimpleQueue --------------------------------------------------------------------- */

typedef PyObject *(*ClassFastKw)(PyObject *, PyTypeObject *, PyObject *const *, size_t, PyObject *);
#define CLASS_FASTKW (METH_METHOD | METH_FASTCALL | METH_KEYWORDS)

static struct {
    PyCFunction get, get_nowait, put, put_nowait, empty;
} native_queue;

static PyObject *
queue_get_nowait(PyObject *q, PyTypeObject *cls)
{
    return ((ClassFastKw)(void (*)(void))native_queue.get_nowait)(q, cls, NULL, 0, NULL);
}

static int
take_item(const Want *w, Shadow *s, G *g)
{
    (void)w;
    (void)g;
    PyObject *empty = native_queue.empty(s->lock, NULL);
    Py_XDECREF(empty);
    return empty == NULL ? -1 : empty == Py_False;
}

/* (block=True, timeout=None) -> nanoseconds, with CPython's errors. */
static int
queue_get_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *ns)
{
    static const char *const names[] = {"block", "timeout", NULL};
    PyObject *values[2] = {NULL, NULL};
    if (named_args("get", names, 0, args, nargs, kwnames, values) < 0) {
        return -1;
    }
    int block = values[0] == NULL ? 1 : PyObject_IsTrue(values[0]);
    *ns = block == 0 ? 0 : -1;
    if (block <= 0 || values[1] == NULL || values[1] == Py_None) {
        return block < 0 ? -1 : 0;
    }
    double seconds = PyFloat_AsDouble(values[1]);
    if (seconds < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
    }
    return PyErr_Occurred() ? -1 : seconds_arg(values[1], "timeout", ns);
}

static PyObject *
queue_get(PyObject *q, PyTypeObject *cls, PyObject *const *args, size_t nargs, PyObject *kwnames)
{
    int64_t ns;
    if (is_elsewhere() || (UNLIKELY(sched.finalizing) && interpreter_finalizing())) {
        return ((ClassFastKw)(void (*)(void))native_queue.get)(q, cls, args, nargs, kwnames);
    }
    M *m = getm();
    if (m == NULL || queue_get_args(args, (Py_ssize_t)nargs, kwnames, &ns) < 0) {
        return NULL;
    }
    int64_t began = ns > 0 ? clock_now() : 0;
    Want w = {take_item, NULL, 0, WAIT_SIMPLE_QUEUE, true};
    for (;;) { /* what we saw another may have taken, on free-threaded builds */
        if (wait_for(m, &w, q, time_left(ns, began)) < 0) {
            return NULL;
        }
        PyObject *item = queue_get_nowait(q, cls);
        if (item != NULL || time_left(ns, began) == 0 || !PyErr_ExceptionMatches(PyExc_Exception)) {
            return item;
        }
        PyErr_Clear();
    }
}

static PyObject *
queue_put_by(PyCFunction put, PyObject *q, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames)
{
    PyObject *r = ((FastKw)(void (*)(void))put)(q, args, nargs, kwnames);
    if (r != NULL && !is_elsewhere()) {
        wake_first(q);
    }
    return r;
}

static PyObject *
queue_put(PyObject *q, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return queue_put_by(native_queue.put, q, args, nargs, kwnames);
}

static PyObject *
queue_put_nowait(PyObject *q, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return queue_put_by(native_queue.put_nowait, q, args, nargs, kwnames);
}

/* ---- in a forked child ----------------------------------------------------------------------- */

/* Those who waited or held are the parent's. */
static void
shadow_forget(PyObject *lock)
{
    if (is_elsewhere()) {
        return;
    }
    Shadow **link = shadow_link(lock);
    if (*link != NULL) {
        *link = (*link)->next; /* and the reference: parked frames still use it */
    }
}

static PyObject *
lock_at_fork_reinit(PyObject *lock, PyObject *unused)
{
    shadow_forget(lock);
    return native_lock.at_fork_reinit(lock, unused);
}

static PyObject *
rlock_at_fork_reinit(PyObject *lock, PyObject *unused)
{
    shadow_forget(lock);
    return native_rlock.at_fork_reinit(lock, unused);
}

/* Those who waited are the parent's; a lock that one of them holds stays held. */
void
native_after_fork(void)
{
    memset(&table.mu, 0, sizeof(table.mu));
    for (int i = 0; i < BUCKETS; i++) {
        for (Shadow *s = table.buckets[i]; s != NULL; s = s->next) {
            s->waiters = (WaitQ){NULL, NULL};
            s->users = 0;
        }
    }
}

/* ---- redirection -------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int flags;         /* the calling convention that `ours` has */
    void *ours;
    PyCFunction *keep; /* what was there; NULL: the same as another's */
    int *keep_flags;
} Redirect;

#define VA_KW (METH_VARARGS | METH_KEYWORDS)

#define ACQUIRE(n) &n.acquire, &n.acquire_flags

static const Redirect lock_redirects[] = {
    {"acquire", VA_KW, lock_acquire_va, ACQUIRE(native_lock)},
    {"acquire", FASTKW, lock_acquire_fast, ACQUIRE(native_lock)},
    {"acquire_lock", VA_KW, lock_acquire_va, NULL, NULL},
    {"acquire_lock", FASTKW, lock_acquire_fast, NULL, NULL},
    {"__enter__", VA_KW, lock_acquire_va, NULL, NULL},
    {"__enter__", METH_NOARGS, lock_enter, NULL, NULL},
    {"release", METH_NOARGS, lock_release, &native_lock.release, NULL},
    {"release_lock", METH_NOARGS, lock_release, NULL, NULL},
    {"__exit__", METH_VARARGS, lock_release, NULL, NULL},
    {"__exit__", METH_FASTCALL, lock_exit_fast, NULL, NULL},
    {"_at_fork_reinit", METH_NOARGS, lock_at_fork_reinit, &native_lock.at_fork_reinit, NULL},
    {NULL, 0, NULL, NULL, NULL},
};

#define RESTORE &native_rlock.acquire_restore, &native_rlock.restore_flags

static const Redirect rlock_redirects[] = {
    {"acquire", VA_KW, rlock_acquire_va, ACQUIRE(native_rlock)},
    {"acquire", FASTKW, rlock_acquire_fast, ACQUIRE(native_rlock)},
    {"__enter__", VA_KW, rlock_acquire_va, NULL, NULL},
    {"__enter__", METH_NOARGS, rlock_enter, NULL, NULL},
    {"release", METH_NOARGS, rlock_release, &native_rlock.release, NULL},
    {"__exit__", METH_VARARGS, rlock_release, NULL, NULL},
    {"__exit__", METH_FASTCALL, rlock_exit_fast, NULL, NULL},
    {"_is_owned", METH_NOARGS, rlock_is_owned, &native_rlock.is_owned, NULL},
    {"_recursion_count", METH_NOARGS, rlock_recursion_count, &native_rlock.recursion_count, NULL},
    {"_release_save", METH_NOARGS, rlock_release_save, &native_rlock.release_save, NULL},
    {"_acquire_restore", METH_VARARGS, rlock_acquire_restore_va, RESTORE},
    {"_acquire_restore", METH_O, rlock_acquire_restore, RESTORE},
    {"_at_fork_reinit", METH_NOARGS, rlock_at_fork_reinit, &native_rlock.at_fork_reinit, NULL},
    {NULL, 0, NULL, NULL, NULL},
};

static const Redirect queue_redirects[] = {
    {"get", CLASS_FASTKW, queue_get, &native_queue.get, NULL},
    {"get_nowait", CLASS_FASTKW, NULL, &native_queue.get_nowait, NULL},
    {"put", FASTKW, queue_put, &native_queue.put, NULL},
    {"put_nowait", FASTKW, queue_put_nowait, &native_queue.put_nowait, NULL},
    {"empty", METH_NOARGS, NULL, &native_queue.empty, NULL},
    {NULL, 0, NULL, NULL, NULL},
};

/* The entry of a class' method table; NULL if it has none of that name. */
static PyMethodDef *
method_def(PyTypeObject *type, const char *name)
{
    PyObject *d = PyObject_GetAttrString((PyObject *)type, name);
    PyMethodDef *def = NULL;
    if (d == NULL) {
        PyErr_Clear();
    }
    else if (Py_IS_TYPE(d, &PyMethodDescr_Type)) {
        def = ((PyMethodDescrObject *)d)->d_method;
    }
    Py_XDECREF(d);
    return def;
}

/* A method that none of `redirects` fits in this CPython, or NULL. */
static const char *
misfit(PyTypeObject *type, const Redirect *redirects)
{
    for (const Redirect *r = redirects; r->name != NULL; r++) {
        PyMethodDef *def = method_def(type, r->name);
        bool fits = def == NULL;
        for (const Redirect *o = redirects; !fits && o->name != NULL; o++) {
            fits = strcmp(o->name, r->name) == 0 && o->flags == def->ml_flags;
        }
        if (!fits) {
            return r->name;
        }
    }
    return NULL;
}

static void
redirect(PyTypeObject *type, const Redirect *redirects, bool keep)
{
    for (const Redirect *r = redirects; r->name != NULL; r++) {
        PyMethodDef *def = method_def(type, r->name);
        if (def == NULL || def->ml_flags != r->flags) {
            continue;
        }
        if (keep && r->keep != NULL) {
            *r->keep = def->ml_meth;
        }
        if (keep && r->keep_flags != NULL) {
            *r->keep_flags = def->ml_flags;
        }
        if (!keep && r->ours != NULL) {
            def->ml_meth = (PyCFunction)(void (*)(void))r->ours;
        }
    }
}

/* The classes whose methods can be redirected, by name. */
static const struct {
    const char *name;
    const Redirect *redirects;
} classes[] = {
    {"lock", lock_redirects},
    {"RLock", rlock_redirects},
    {"SimpleQueue", queue_redirects},
};

static const Redirect *
redirects_of(PyTypeObject *type)
{
    const char *dot = strrchr(type->tp_name, '.'), *name = dot != NULL ? dot + 1 : type->tp_name;
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strcmp(name, classes[i].name) == 0) {
            return classes[i].redirects;
        }
    }
    return NULL;
}

/* Whether that was done before. */
static bool
is_redirected(PyTypeObject *type, const Redirect *redirects)
{
    PyMethodDef *def = method_def(type, redirects[0].name);
    for (const Redirect *r = redirects; def != NULL && r->name != NULL; r++) {
        if (r->ours != NULL && def->ml_meth == (PyCFunction)(void (*)(void))r->ours) {
            return true;
        }
    }
    return false;
}

/* _redirect_methods(class): they park from now on. */
static PyObject *
rt_redirect_methods(PyObject *mod, PyObject *arg)
{
    (void)mod;
    M *m = getm();
    PyTypeObject *type = (PyTypeObject *)arg;
    const Redirect *redirects = PyType_Check(arg) ? redirects_of(type) : NULL;
    if (redirects == NULL) {
        return PyErr_Format(PyExc_TypeError, "_redirect_methods: not for %R", arg);
    }
    if (is_redirected(type, redirects)) {
        Py_RETURN_NONE;
    }
    const char *name = misfit(type, redirects);
    if (name != NULL) {
        return PyErr_Format(PyExc_RuntimeError,
                            "patch: this CPython's %s.%s is called in an unknown way",
                            type->tp_name, name);
    }
    if (not_blocking == NULL && (not_blocking = Py_BuildValue("(O)", Py_False)) == NULL) {
        return NULL;
    }
    patcher = m != NULL ? current_g(m)->id : 0;
    redirect(type, redirects, true);
    redirect(type, redirects, false);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    METHOD("_redirect_methods", rt_redirect_methods, METH_O,
           PyDoc_STR("_redirect_methods(class)\n--\n\n"
                     "For patch: the methods of _thread.lock, RLock or SimpleQueue park.")),
    {NULL, NULL, 0, NULL},
};

int
native_add_functions(PyObject *mod)
{
    return PyModule_AddFunctions(mod, functions);
}
