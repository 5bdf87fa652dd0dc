/* SPDX-License-Identifier: MIT
 *
 * future.c: futures, each of which may be the task whose result it holds.
 *
 * The Python class goroutines.Future derives from this type and from
 * concurrent.futures.Future, so what is written for those works with these.
 * Nothing of the second base is initialised: making a Future allocates one
 * object, and what the standard library reads of one (`_state`, `_condition`,
 * `_waiters`) is made when it is asked for (_future.py).
 *
 * States, with f->mu held:
 *   PENDING -> RUNNING -> FINISHED
 *   PENDING -> CANCELLED -> NOTIFIED      NOTIFIED at once for a task, which
 *                                         needs nobody to notice
 *   RUNNING -> NOTIFIED                   an executor gave its part up
 *   - result and exc are written before FINISHED is, and never change after;
 *   - whoever makes f done takes its waiters and callbacks away and, the lock
 *     given up, wakes and calls them (News).  So each hears of it once.
 *
 * concurrent.futures.wait() takes the `_condition` of many futures, looks at
 * their states, adds its waiter to each, and expects that meanwhile none of
 * them changes.  Taking it (_hold) freezes what is seen, never what happens:
 * `_state` shows the state of that moment, and the waiters of a future that
 * gets done are told when the last holder lets go.  So no goroutine ever has
 * to wait to deliver a result.
 */
#include "runtime.h"

PyTypeObject *future_type; /* goroutines.Future, once _future.py is imported */

static struct {
    PyObject *cancelled_error, *invalid_state; /* concurrent.futures' */
    PyObject *callback_failed;                 /* (future, exc): logs it */
} hooks;

static const char *const state_name[] = {
    [FUTURE_PENDING] = "PENDING",     [FUTURE_RUNNING] = "RUNNING",
    [FUTURE_CANCELLED] = "CANCELLED", [FUTURE_NOTIFIED] = "CANCELLED_AND_NOTIFIED",
    [FUTURE_FINISHED] = "FINISHED",
};

static inline FutureState
state_of(Future *f)
{
    return atomic_load_explicit(&f->state, memory_order_acquire);
}

static inline bool
is_done(Future *f)
{
    return state_of(f) >= FUTURE_CANCELLED;
}

/* ---- becoming done ------------------------------------------------------------------- */

/* Take away who wants to know that f is done.  f->mu is held. */
static inline void
take_news(Future *f, News *n)
{
    waitq_wake_all(&f->q, &n->wake);
    n->callbacks = f->callbacks;
    f->callbacks = NULL;
    if (f->waiters != NULL && f->state != FUTURE_CANCELLED) {
        f->owes = f->holders > 0;
        if (!f->owes) {
            n->waiters = f->waiters;
            f->waiters = NULL;
        }
    }
}

/* Make f done unless it is.  Takes over result or exc if it does.  The caller
 * tells the news when it holds no lock. */
bool
future_settle(Future *f, FutureState state, PyObject *result, PyObject *exc, News *n)
{
    LOCK(&f->mu);
    if (is_done(f)) {
        UNLOCK(&f->mu);
        return false;
    }
    f->result = result;
    f->exc = exc;
    atomic_store_explicit(&f->state, (uint8_t)state, memory_order_release);
    take_news(f, n);
    UNLOCK(&f->mu);
    return true;
}

/* PENDING -> RUNNING.  False if it was cancelled (or set by somebody). */
bool
future_begin(Future *f)
{
    LOCK(&f->mu);
    bool mine = f->state == FUTURE_PENDING;
    if (mine) {
        atomic_store_explicit(&f->state, FUTURE_RUNNING, memory_order_release);
    }
    UNLOCK(&f->mu);
    return mine;
}

static void
tell_waiters(Future *f, PyObject *waiters)
{
    const char *how = f->state == FUTURE_NOTIFIED ? "add_cancelled"
                      : f->exc != NULL            ? "add_exception"
                                                  : "add_result";
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(waiters); i++) {
        PyObject *waiter = Py_NewRef(PyList_GET_ITEM(waiters, i));
        PyObject *r = PyObject_CallMethod(waiter, how, "O", f);
        if (r == NULL) {
            PyErr_WriteUnraisable(waiter);
        }
        Py_XDECREF(r);
        Py_DECREF(waiter);
    }
    Py_DECREF(waiters);
}

/* Call one callback.  An Exception is logged; what is none is for the caller. */
static int
call_back(Future *f, PyObject *fn)
{
    PyObject *r = PyObject_CallOneArg(fn, (PyObject *)f);
    if (LIKELY(r != NULL)) {
        Py_DECREF(r);
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyObject *exc = take_raised();
    if (hooks.callback_failed != NULL) {
        r = PyObject_CallFunctionObjArgs(hooks.callback_failed, f, exc, NULL);
    }
    if (r == NULL) {
        PyErr_WriteUnraisable(fn);
    }
    Py_XDECREF(r);
    Py_DECREF(exc);
    return 0;
}

static NOINLINE int
tell_others(Future *f, News *n)
{
    PyObject *raised = NULL;
    if (n->waiters != NULL) {
        tell_waiters(f, n->waiters);
    }
    for (Py_ssize_t i = 0; n->callbacks != NULL && i < PyList_GET_SIZE(n->callbacks); i++) {
        if (call_back(f, PyList_GET_ITEM(n->callbacks, i)) < 0) {
            Py_XSETREF(raised, take_raised());
        }
    }
    Py_XDECREF(n->callbacks);
    if (raised != NULL) {
        set_raised(raised);
        return -1;
    }
    return 0;
}

/* Wake and call whoever wants to know that f is done.  -1 with what is no
 * Exception, if a callback raised that. */
int
future_tell(Future *f, News *n)
{
    goready_all(n->wake);
    return LIKELY(n->waiters == NULL && n->callbacks == NULL) ? 0 : tell_others(f, n);
}

/* ---- the task ------------------------------------------------------------------------ */

void
future_drop_task(Future *f)
{
    Py_CLEAR(f->fn);
    Py_CLEAR(f->args);
    Py_CLEAR(f->kwnames);
    Py_CLEAR(f->context);
}

/* A pending future whose task is fn(*args, **kwargs). */
Future *
future_new_task(M *m, PyObject *fn, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Future *f = (Future *)future_type->tp_alloc(future_type, 0);
    if (f == NULL) {
        return NULL;
    }
    f->is_task = true;
    f->fn = Py_NewRef(fn);
    Py_ssize_t all = nargs + (kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0);
    if (all > 0) {
        f->args = PyTuple_New(all);
        if (f->args == NULL) {
            goto error;
        }
        for (Py_ssize_t i = 0; i < all; i++) {
            PyTuple_SET_ITEM(f->args, i, Py_NewRef(args[i]));
        }
        f->kwnames = Py_XNewRef(kwnames);
    }
    if (!context_is_empty(m->ts->context)) {
        f->context = PyContext_Copy(m->ts->context);
        if (f->context == NULL) {
            goto error;
        }
    }
    return f;
error:
    Py_DECREF(f);
    return NULL;
}

/* Call through(f, fn, *args, **kwargs). */
static PyObject *
call_through(Future *f, PyObject *through)
{
    Py_ssize_t nargs = f->args != NULL ? PyTuple_GET_SIZE(f->args) : 0;
    Py_ssize_t nkw = f->kwnames != NULL ? PyTuple_GET_SIZE(f->kwnames) : 0;
    PyObject **args = PyMem_New(PyObject *, nargs + 2);
    if (args == NULL) {
        return PyErr_NoMemory();
    }
    args[0] = (PyObject *)f;
    args[1] = f->fn;
    if (nargs > 0) {
        memcpy(args + 2, &PyTuple_GET_ITEM(f->args, 0), (size_t)nargs * sizeof(PyObject *));
    }
    PyObject *r = PyObject_Vectorcall(through, args, (size_t)(nargs - nkw + 2), f->kwnames);
    PyMem_Free(args);
    return r;
}

/* Each task has its context for itself, as a goroutine has. */
static inline void
set_context(M *m, PyObject *context)
{
    if (UNLIKELY(m->ts->context != context)) {
        PyObject *old = m->ts->context;
        m->ts->context = context;
        m->ts->context_ver++;
        Py_XDECREF(old);
    }
}

/* Run the task of f, whose state is RUNNING, in a goroutine that has no
 * context of its own; through: what to call it through, or NULL.  Its result,
 * or NULL and *exc.  The task is dropped. */
PyObject *
future_run_task(M *m, Future *f, PyObject *through, PyObject **exc)
{
    PyObject *r;
    set_context(m, f->context);
    f->context = NULL;
    if (UNLIKELY(through != NULL)) {
        r = call_through(f, through);
    }
    else if (f->args == NULL) {
        r = PyObject_CallNoArgs(f->fn);
    }
    else {
        Py_ssize_t nkw = f->kwnames != NULL ? PyTuple_GET_SIZE(f->kwnames) : 0;
        r = PyObject_Vectorcall(f->fn, &PyTuple_GET_ITEM(f->args, 0),
                                (size_t)(PyTuple_GET_SIZE(f->args) - nkw), f->kwnames);
    }
    *exc = NULL;
    if (UNLIKELY(r == NULL)) {
        *exc = take_raised();
    }
    future_drop_task(f);
    set_context(m, NULL);
    return r;
}

/* ---- waiting --------------------------------------------------------------------------- */

static int
future_wait(M *m, Future *f, int64_t ns, const char *op)
{
    if (is_done(f)) {
        return 0;
    }
    if (may_wait(m, ns, op, (PyObject *)f) < 0) {
        return -1;
    }
    LOCK(&f->mu);
    if (is_done(f)) {
        UNLOCK(&f->mu);
        return 0;
    }
    return wait_in(m, &f->q, &f->mu, ns, WAIT_FUTURE, op, (PyObject *)f);
}

/* Wait until f is done.  0, or -1 with TimeoutError or CancelledError. */
static int
wait_for_outcome(Future *f, const char *op, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    int64_t ns = -1;
    M *m = getm();
    if (m == NULL) {
        return -1;
    }
    if (nargs + nkw > 1 || (nkw == 1 && PyUnicode_CompareWithASCIIString(
                                            PyTuple_GET_ITEM(kwnames, 0), "timeout") != 0)) {
        PyErr_Format(PyExc_TypeError, "Future.%s(timeout=None) takes one number", op);
        return -1;
    }
    if ((nargs + nkw == 1 && timeout_arg(args[0], &ns) < 0) || future_wait(m, f, ns, op) < 0) {
        return -1;
    }
    if (state_of(f) != FUTURE_FINISHED) {
        PyErr_Format(hooks.cancelled_error, "%R was cancelled", f);
        return -1;
    }
    return 0;
}

static PyObject *
Future_result(Future *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (UNLIKELY(nargs != 0 || kwnames != NULL || state_of(f) != FUTURE_FINISHED) &&
        wait_for_outcome(f, "result", args, nargs, kwnames) < 0) {
        return NULL;
    }
    if (UNLIKELY(f->exc != NULL)) {
        set_raised(Py_NewRef(f->exc));
        return NULL;
    }
    return Py_NewRef(f->result);
}

static PyObject *
Future_exception(Future *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (wait_for_outcome(f, "exception", args, nargs, kwnames) < 0) {
        return NULL;
    }
    return Py_NewRef(f->exc != NULL ? f->exc : Py_None);
}

/* ---- asking and cancelling ------------------------------------------------------------- */

static PyObject *
Future_done(Future *f, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(is_done(f));
}

static PyObject *
Future_running(Future *f, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(state_of(f) == FUTURE_RUNNING);
}

static PyObject *
Future_cancelled(Future *f, PyObject *unused)
{
    (void)unused;
    FutureState s = state_of(f);
    return PyBool_FromLong(s == FUTURE_CANCELLED || s == FUTURE_NOTIFIED);
}

/* A running task whose work was handed to an executor ends with that. */
static int
cancel_foreign(Future *f)
{
    LOCK(&f->mu);
    PyObject *foreign = f->state == FUTURE_RUNNING ? Py_XNewRef(f->foreign) : NULL;
    UNLOCK(&f->mu);
    if (foreign == NULL) {
        return 0;
    }
    PyObject *r = PyObject_CallMethod(foreign, "cancel", NULL);
    int cancelled = r == NULL ? -1 : PyObject_IsTrue(r);
    Py_XDECREF(r);
    Py_DECREF(foreign);
    return cancelled;
}

static PyObject *
Future_cancel(Future *f, PyObject *unused)
{
    News news = {0};
    (void)unused;
    LOCK(&f->mu);
    FutureState state = f->state;
    bool won = state == FUTURE_PENDING;
    if (won) {
        state = f->is_task ? FUTURE_NOTIFIED : FUTURE_CANCELLED;
        atomic_store_explicit(&f->state, (uint8_t)state, memory_order_release);
        take_news(f, &news);
    }
    UNLOCK(&f->mu);
    if (state == FUTURE_RUNNING) {
        int r = cancel_foreign(f);
        if (r < 0) {
            return NULL;
        }
        won = r > 0 && future_settle(f, FUTURE_NOTIFIED, NULL, NULL, &news);
        state = state_of(f);
    }
    else if (won && f->is_task) {
        if (f->pool != NULL) {
            pool_unqueue(f);
            Py_CLEAR(f->pool);
        }
        future_drop_task(f);
    }
    if (future_tell(f, &news) < 0) {
        return NULL;
    }
    return PyBool_FromLong(state == FUTURE_CANCELLED || state == FUTURE_NOTIFIED);
}

/* The one argument `name` of a call, by place or by name, borrowed. */
static PyObject *
one_arg(const char *method, const char *name, PyObject *const *args, Py_ssize_t nargs,
        PyObject *kwnames)
{
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs + nkw != 1 ||
        (nkw == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), name) != 0)) {
        PyErr_Format(PyExc_TypeError, "Future.%s(%s) takes exactly one argument", method, name);
        return NULL;
    }
    return args[0];
}

static PyObject *
Future_add_done_callback(Future *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *fn = one_arg("add_done_callback", "fn", args, nargs, kwnames);
    if (fn == NULL) {
        return NULL;
    }
    if (!PyCallable_Check(fn)) {
        PyErr_Format(PyExc_TypeError, "Future.add_done_callback: %R is not callable", fn);
        return NULL;
    }
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    int r = 0;
    LOCK(&f->mu);
    bool done = is_done(f);
    if (!done) {
        if (f->callbacks == NULL) {
            f->callbacks = list;
            list = NULL;
        }
        r = PyList_Append(f->callbacks, fn);
    }
    UNLOCK(&f->mu);
    Py_XDECREF(list);
    if (r < 0 || (done && call_back(f, fn) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Whether exc is concurrent.futures.CancelledError. */
bool
future_is_cancelled_error(PyObject *exc)
{
    return PyErr_GivenExceptionMatches(exc, hooks.cancelled_error);
}

/* ---- what executors call ---------------------------------------------------------------- */

static PyObject *
invalid_state(Future *f, const char *op)
{
    PyErr_Format(hooks.invalid_state, "%s: already %s: %R", op, state_name[state_of(f)], f);
    return NULL;
}

static PyObject *
set_outcome(Future *f, PyObject *result, PyObject *exc, const char *op)
{
    News news = {0};
    Py_XINCREF(result);
    Py_XINCREF(exc);
    if (!future_settle(f, FUTURE_FINISHED, result, exc, &news)) {
        Py_XDECREF(result);
        Py_XDECREF(exc);
        return invalid_state(f, op);
    }
    return future_tell(f, &news) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Future_set_result(Future *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *result = one_arg("set_result", "result", args, nargs, kwnames);
    return result == NULL ? NULL : set_outcome(f, result, NULL, "set_result");
}

static PyObject *
Future_set_exception(Future *f, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *exc = one_arg("set_exception", "exception", args, nargs, kwnames);
    if (exc == NULL) {
        return NULL;
    }
    if (exc == Py_None) { /* as the standard library takes it */
        return set_outcome(f, Py_None, NULL, "set_exception");
    }
    if (PyExceptionClass_Check(exc)) {
        exc = PyObject_CallNoArgs(exc);
        if (exc == NULL) {
            return NULL;
        }
    }
    else {
        Py_INCREF(exc);
    }
    PyObject *r = NULL;
    if (PyExceptionInstance_Check(exc)) {
        r = set_outcome(f, NULL, exc, "set_exception");
    }
    else {
        PyErr_Format(PyExc_TypeError, "set_exception: expected an exception, not %R", exc);
    }
    Py_DECREF(exc);
    return r;
}

static PyObject *
Future_set_running_or_notify_cancel(Future *f, PyObject *unused)
{
    News news = {0};
    (void)unused;
    if (future_begin(f)) {
        Py_RETURN_TRUE;
    }
    LOCK(&f->mu);
    bool cancelled = f->state == FUTURE_CANCELLED;
    if (cancelled) {
        atomic_store_explicit(&f->state, FUTURE_NOTIFIED, memory_order_release);
        take_news(f, &news);
    }
    UNLOCK(&f->mu);
    if (!cancelled) {
        PyErr_Format(PyExc_RuntimeError, "set_running_or_notify_cancel: already %s: %R",
                     state_name[state_of(f)], f);
        return NULL;
    }
    return future_tell(f, &news) < 0 ? NULL : Py_NewRef(Py_False);
}

/* ---- for the Python side ------------------------------------------------------------------ */

static PyObject *
Future_hold(Future *f, PyObject *unused)
{
    (void)unused;
    LOCK(&f->mu);
    if (f->holders++ == 0) {
        f->shown = f->state;
    }
    UNLOCK(&f->mu);
    Py_RETURN_NONE;
}

static PyObject *
Future_let_go(Future *f, PyObject *unused)
{
    PyObject *waiters = NULL;
    (void)unused;
    LOCK(&f->mu);
    bool held = f->holders > 0;
    if (held && --f->holders == 0 && f->owes) {
        f->owes = false;
        waiters = f->waiters;
        f->waiters = NULL;
    }
    UNLOCK(&f->mu);
    if (!held) {
        PyErr_Format(PyExc_RuntimeError, "release of what is not held: the condition of %R", f);
        return NULL;
    }
    if (waiters != NULL) {
        tell_waiters(f, waiters);
    }
    Py_RETURN_NONE;
}

/* The list of waiters: the one there is, or else `list` from now on. */
static PyObject *
Future_waiters(Future *f, PyObject *list)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "_waiters_or: expected a list");
        return NULL;
    }
    LOCK(&f->mu);
    if (f->waiters == NULL) {
        f->waiters = Py_NewRef(list);
    }
    PyObject *r = Py_NewRef(f->waiters);
    if (is_done(f) && f->state != FUTURE_CANCELLED && f->holders > 0 &&
        f->shown < FUTURE_NOTIFIED) {
        f->owes = true; /* added by who still sees it undone */
    }
    UNLOCK(&f->mu);
    return r;
}

/* Future._task(fn, /, *args, **kwargs): pending, for _run. */
static PyObject *
Future_task(PyObject *type, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    PyObject *fn = callable_arg("go", args, nargs);
    (void)type;
    if (m == NULL || fn == NULL) {
        return NULL;
    }
    return (PyObject *)future_new_task(m, fn, args + 1, nargs - 1, kwnames);
}

/* Run the task; what it raised, or None.  Nobody is told yet: _finish. */
static PyObject *
Future_run(Future *f, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    if (f->fn == NULL || !future_begin(f)) {
        Py_RETURN_NONE; /* cancelled */
    }
    f->outcome = future_run_task(m, f, NULL, &f->failure);
    return Py_NewRef(f->failure != NULL ? f->failure : Py_None);
}

/* Make the outcome of _run known. */
static PyObject *
Future_finish(Future *f, PyObject *unused)
{
    News news = {0};
    (void)unused;
    if (f->outcome == NULL && f->failure == NULL) {
        Py_RETURN_NONE; /* cancelled */
    }
    PyObject *result = f->outcome, *exc = f->failure;
    f->outcome = f->failure = NULL;
    if (!future_settle(f, FUTURE_FINISHED, result, exc, &news)) {
        Py_XDECREF(result);
        Py_XDECREF(exc);
    }
    return future_tell(f, &news) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Future_get_state(Future *f, void *unused)
{
    (void)unused;
    LOCK(&f->mu);
    FutureState s = f->holders > 0 ? f->shown : f->state;
    UNLOCK(&f->mu);
    return PyUnicode_FromString(state_name[s]);
}

static PyObject *
Future_get_result(Future *f, void *unused)
{
    (void)unused;
    bool there = state_of(f) == FUTURE_FINISHED && f->result != NULL;
    return Py_NewRef(there ? f->result : Py_None);
}

static PyObject *
Future_get_exception(Future *f, void *unused)
{
    (void)unused;
    bool there = state_of(f) == FUTURE_FINISHED && f->exc != NULL;
    return Py_NewRef(there ? f->exc : Py_None);
}

static PyObject *
Future_get_foreign(Future *f, void *unused)
{
    (void)unused;
    LOCK(&f->mu);
    PyObject *foreign = Py_NewRef(f->foreign != NULL ? f->foreign : Py_None);
    UNLOCK(&f->mu);
    return foreign;
}

static int
Future_set_foreign(Future *f, PyObject *foreign, void *unused)
{
    (void)unused;
    LOCK(&f->mu);
    PyObject *old = f->foreign;
    f->foreign = foreign == NULL || foreign == Py_None ? NULL : Py_NewRef(foreign);
    UNLOCK(&f->mu);
    Py_XDECREF(old);
    return 0;
}

static PyObject *
Future_repr(Future *f)
{
    static const char *const word[] = {
        [FUTURE_PENDING] = "pending",     [FUTURE_RUNNING] = "running",
        [FUTURE_CANCELLED] = "cancelled", [FUTURE_NOTIFIED] = "cancelled",
        [FUTURE_FINISHED] = "finished",
    };
    FutureState s = state_of(f);
    if (s != FUTURE_FINISHED) {
        return PyUnicode_FromFormat("<Future at %p %s>", f, word[s]);
    }
    return PyUnicode_FromFormat("<Future at %p finished: %s %.200s>", f,
                                f->exc != NULL ? "raised" : "returned",
                                Py_TYPE(f->exc != NULL ? f->exc : f->result)->tp_name);
}

/* ---- life and death -------------------------------------------------------------------------- */

/* Not the other base's: nothing of it is initialised. */
static int
Future_init(Future *f, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    (void)f;
    return PyArg_ParseTupleAndKeywords(args, kwargs, ":Future", names) ? 0 : -1;
}

static int
Future_traverse(Future *f, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(f));
    Py_VISIT(f->result);
    Py_VISIT(f->exc);
    Py_VISIT(f->callbacks);
    Py_VISIT(f->waiters);
    Py_VISIT(f->fn);
    Py_VISIT(f->args);
    Py_VISIT(f->kwnames);
    Py_VISIT(f->context);
    Py_VISIT(f->foreign);
    Py_VISIT(f->outcome);
    Py_VISIT(f->failure);
    Py_VISIT(f->pool);
    return 0;
}

static int
Future_clear(Future *f)
{
    future_drop_task(f);
    Py_CLEAR(f->callbacks);
    Py_CLEAR(f->waiters);
    Py_CLEAR(f->foreign);
    Py_CLEAR(f->outcome);
    Py_CLEAR(f->failure);
    Py_CLEAR(f->pool);
    if (f->exc != NULL || f->result != NULL) {
        Py_CLEAR(f->exc);
        Py_XSETREF(f->result, Py_NewRef(Py_None)); /* result() must still have one */
    }
    return 0;
}

static void
Future_dealloc(Future *f)
{
    PyTypeObject *type = Py_TYPE(f);
    PyObject_GC_UnTrack(f);
    Py_TRASHCAN_BEGIN(f, Future_dealloc) Future_clear(f);
    Py_CLEAR(f->result);
    type->tp_free(f);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyMethodDef future_methods[] = {
    METHOD("result", Future_result, FASTKW,
           PyDoc_STR("result($self, timeout=None)\n--\n\n"
                     "Wait until it is done and return what the task returned, or raise the very\n"
                     "exception that it raised.\n\n"
                     "Raises TimeoutError when the time (seconds) runs out, CancelledError if it\n"
                     "was cancelled.")),
    METHOD("exception", Future_exception, FASTKW,
           PyDoc_STR("exception($self, timeout=None)\n--\n\n"
                     "Wait until it is done and return what the task raised, or None.\n\n"
                     "Raises TimeoutError when the time (seconds) runs out, CancelledError if it\n"
                     "was cancelled.")),
    METHOD("done", Future_done, METH_NOARGS,
           PyDoc_STR("done($self)\n--\n\nWhether it is finished or cancelled.")),
    METHOD("running", Future_running, METH_NOARGS,
           PyDoc_STR("running($self)\n--\n\nWhether its task has begun and not ended.")),
    METHOD("cancelled", Future_cancelled, METH_NOARGS,
           PyDoc_STR("cancelled($self)\n--\n\nWhether it was cancelled.")),
    METHOD("cancel", Future_cancel, METH_NOARGS,
           PyDoc_STR("cancel($self)\n--\n\n"
                     "Cancel it if its task has not begun; return whether it is cancelled.  Work\n"
                     "that is with an executor is cancelled if that can still be.")),
    METHOD("add_done_callback", Future_add_done_callback, FASTKW,
           PyDoc_STR("add_done_callback($self, fn)\n--\n\n"
                     "Call fn(future) when it is done, at once if it is.  Callbacks run in the\n"
                     "order in which they were added, where the future gets done; an exception\n"
                     "of one is logged.  Raises TypeError if fn is not callable.")),
    METHOD("set_running_or_notify_cancel", Future_set_running_or_notify_cancel, METH_NOARGS,
           PyDoc_STR("set_running_or_notify_cancel($self)\n--\n\n"
                     "For executors: begin, unless it was cancelled; return whether to go on.")),
    METHOD("set_result", Future_set_result, FASTKW,
           PyDoc_STR("set_result($self, result)\n--\n\n"
                     "For executors: make it done.  Raises InvalidStateError if it is.")),
    METHOD("set_exception", Future_set_exception, FASTKW,
           PyDoc_STR("set_exception($self, exception)\n--\n\n"
                     "For executors: make it done.  Raises InvalidStateError if it is.")),
    METHOD("__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
           PyDoc_STR("Future[T]: a future of a T, for type checkers.")),
    METHOD("_hold", Future_hold, METH_NOARGS, NULL),
    METHOD("_let_go", Future_let_go, METH_NOARGS, NULL),
    METHOD("_waiters_or", Future_waiters, METH_O, NULL),
    METHOD("_task", Future_task, FASTKW | METH_CLASS, NULL),
    METHOD("_run", Future_run, METH_NOARGS, NULL),
    METHOD("_finish", Future_finish, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef future_getset[] = {
    {"_state", (getter)Future_get_state, NULL, NULL, NULL},
    {"_result", (getter)Future_get_result, NULL, NULL, NULL},
    {"_exception", (getter)Future_get_exception, NULL, NULL, NULL},
    {"_foreign", (getter)Future_get_foreign, (setter)Future_set_foreign, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The core of goroutines.Future.")},
    {Py_tp_init, Future_init},
    {Py_tp_traverse, Future_traverse},
    {Py_tp_clear, Future_clear},
    {Py_tp_dealloc, Future_dealloc},
    {Py_tp_repr, Future_repr},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, future_getset},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "goroutines._runtime.Future",
    .basicsize = sizeof(Future),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = future_slots,
};

/* What _future.py supplies: the class to make, and what not to import here. */
PyObject *
future_set_hooks(PyObject *mod, PyObject *args)
{
    PyTypeObject *type;
    PyObject *cancelled, *invalid, *failed;
    (void)mod;
    if (!PyArg_ParseTuple(args, "O!OOO:_set_future_hooks", &PyType_Type, &type, &cancelled,
                          &invalid, &failed)) {
        return NULL;
    }
    Py_XSETREF(future_type, (PyTypeObject *)Py_NewRef((PyObject *)type));
    Py_XSETREF(hooks.cancelled_error, Py_NewRef(cancelled));
    Py_XSETREF(hooks.invalid_state, Py_NewRef(invalid));
    Py_XSETREF(hooks.callback_failed, Py_NewRef(failed));
    Py_RETURN_NONE;
}

int
future_add_types(PyObject *mod)
{
    PyObject *type = PyType_FromModuleAndSpec(mod, &future_spec, NULL);
    int r = type == NULL ? -1 : PyModule_AddObjectRef(mod, "Future", type);
    Py_XDECREF(type);
    return r;
}
