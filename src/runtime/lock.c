/* SPDX-License-Identifier: MIT
 *
 * lock.c: the locks of patched `threading`: Lock, and RLock owned by goroutines.
 *
 * They are what _thread.lock and _thread.RLock are, to the letter of their
 * arguments and errors, but park the goroutine.  A release hands the lock to
 * the first waiter: no waiter starves, and none is woken in vain.
 *
 * Invariants, with l->mu held: waiters wait only while it is held (count > 0);
 * an RLock that is held has an owner, the id of a goroutine or of a thread's own.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below */
    bool reentrant;
    Py_ssize_t count; /* 0: free; of a Lock at most 1 */
    int64_t owner;    /* of an RLock: G.id */
    WaitQ waiters;
    PyObject *weakrefs;
} LockObject;

static PyTypeObject *lock_type, *rlock_type;

/* ---- acquire -------------------------------------------------------------------------- */

/* With l->mu held. */
static inline bool
take(LockObject *l, G *g, Py_ssize_t count)
{
    if (LIKELY(l->count == 0)) {
        l->count = count;
        l->owner = g->id;
        return true;
    }
    if (l->reentrant && l->owner == g->id) {
        l->count += count;
        return true;
    }
    return false;
}

/* Wait for at most ns (-1: no limit).  1: it is ours, 0: not in time, -1: exception. */
static NOINLINE int
wait_for_lock(M *m, LockObject *l, Py_ssize_t count, int64_t ns)
{
    G *g = m->curg;
    if (park_check(m, g) < 0) {
        return -1;
    }
    LOCK(&l->mu);
    if (take(l, g, count)) {
        UNLOCK(&l->mu);
        return 1;
    }
    g_will_wait(g);
    g->sg.n = count;
    waitq_push(&l->waiters, &g->sg);
    UNLOCK(&l->mu);
    Py_INCREF(l);
    Wake how = gopark(m, g, ns, l->reentrant ? WAIT_THREAD_RLOCK : WAIT_THREAD_LOCK);
    if (how != WAKE_READY) {
        LOCK(&l->mu);
        waitq_remove(&l->waiters, &g->sg);
        UNLOCK(&l->mu);
    }
    Py_DECREF(l);
    return how == WAKE_READY ? 1 : how == WAKE_TIMEOUT ? 0 : wake_error(g, how, "acquire", NULL);
}

static inline int
acquire(M *m, LockObject *l, Py_ssize_t count, int64_t ns)
{
    G *g = current_g(m);
    LOCK(&l->mu);
    bool ours = take(l, g, count);
    UNLOCK(&l->mu);
    TORTURE(m);
    return LIKELY(ours) ? 1 : ns == 0 ? 0 : wait_for_lock(m, l, count, ns);
}

/* (blocking=True, timeout=-1) -> nanoseconds, with CPython's errors. */
int
lock_timeout(bool block, PyObject *timeout, int64_t *ns)
{
    *ns = block ? -1 : 0;
    double seconds = timeout == NULL ? -1 : PyFloat_AsDouble(timeout);
    if (seconds == -1) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (!block) {
        PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
        return -1;
    }
    if (!(seconds >= 0)) {
        PyErr_SetString(PyExc_ValueError, "timeout value must be a non-negative number");
        return -1;
    }
    if (seconds > 9223372036.0) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return -1;
    }
    return seconds_arg(timeout, "timeout", ns);
}

static int
acquire_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, int64_t *ns)
{
    PyObject *blocking = nargs > 0 ? args[0] : Py_True;
    PyObject *timeout = nargs > 1 ? args[1] : NULL;
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs > 2) {
        PyErr_Format(PyExc_TypeError, "acquire() takes at most 2 arguments (%zd given)", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(name, "blocking") == 0) {
            blocking = args[nargs + i];
        }
        else if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
            timeout = args[nargs + i];
        }
        else {
            PyErr_Format(PyExc_TypeError, "acquire() got an unexpected keyword argument %R", name);
            return -1;
        }
    }
    int block = PyObject_IsTrue(blocking);
    return block < 0 ? -1 : lock_timeout(block, timeout, ns);
}

static PyObject *
Lock_acquire(LockObject *l, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns = -1;
    if (UNLIKELY(nargs != 0 || kwnames != NULL) && acquire_args(args, nargs, kwnames, &ns) < 0) {
        return NULL;
    }
    int r = m == NULL ? -1 : acquire(m, l, 1, ns);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *
Lock_enter(LockObject *l, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    return m == NULL || acquire(m, l, 1, -1) < 0 ? NULL : Py_NewRef(Py_True);
}

/* ---- release ---------------------------------------------------------------------------- */

/* Give it to the first waiter, or nobody; with l->mu held.  Whom to wake. */
static inline G *
hand_over(LockObject *l)
{
    Sudog *sg = l->waiters.first != NULL ? waitq_claim(&l->waiters) : NULL;
    l->count = sg != NULL ? sg->n : 0;
    l->owner = sg != NULL ? sg->g->id : 0;
    return sg != NULL ? sg->g : NULL;
}

static inline int
release(LockObject *l)
{
    if (l->reentrant) {
        M *m = getm();
        if (m == NULL) {
            return -1;
        }
        if (l->count == 0 || l->owner != current_g(m)->id) {
            PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
            return -1;
        }
    }
    G *wake = NULL;
    LOCK(&l->mu);
    if (l->count == 0) {
        UNLOCK(&l->mu);
        PyErr_SetString(PyExc_RuntimeError, "release unlocked lock");
        return -1;
    }
    if (l->count == 1) {
        wake = hand_over(l);
    }
    else {
        l->count--;
    }
    UNLOCK(&l->mu);
    if (wake != NULL) {
        goready(wake);
    }
    return 0;
}

static PyObject *
Lock_release(LockObject *l, PyObject *unused)
{
    (void)unused;
    return release(l) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Lock_exit(LockObject *l, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return release(l) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Lock_locked(LockObject *l, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(l->count > 0);
}

/* In a forked child: nobody else is left to release it. */
static PyObject *
Lock_at_fork_reinit(LockObject *l, PyObject *unused)
{
    (void)unused;
    memset(&l->mu, 0, sizeof(l->mu));
    l->count = 0;
    l->owner = 0;
    l->waiters = (WaitQ){NULL, NULL};
    Py_RETURN_NONE;
}

/* ---- what Condition asks of an RLock ------------------------------------------------------ */

static PyObject *
RLock_is_owned(LockObject *l, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    return m == NULL ? NULL : PyBool_FromLong(l->count > 0 && l->owner == current_g(m)->id);
}

static PyObject *
RLock_recursion_count(LockObject *l, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    return m == NULL ? NULL : PyLong_FromSsize_t(l->owner == current_g(m)->id ? l->count : 0);
}

static PyObject *
RLock_release_save(LockObject *l, PyObject *unused)
{
    (void)unused;
    LOCK(&l->mu);
    Py_ssize_t count = l->count;
    int64_t owner = l->owner;
    G *wake = count > 0 ? hand_over(l) : NULL;
    UNLOCK(&l->mu);
    if (count == 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release un-acquired lock");
        return NULL;
    }
    if (wake != NULL) {
        goready(wake);
    }
    return Py_BuildValue("nL", count, (long long)owner);
}

static PyObject *
RLock_acquire_restore(LockObject *l, PyObject *state)
{
    M *m = getm();
    Py_ssize_t count;
    long long owner;
    if (m == NULL || !PyArg_ParseTuple(state, "nL:_acquire_restore", &count, &owner)) {
        return NULL;
    }
    G *g = current_g(m);
    bool was = g_insist(g, true); /* a Condition must have its lock back */
    int r = acquire(m, l, count, -1);
    g_insist(g, was);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- the Python types ------------------------------------------------------------------------ */

static PyObject *
Lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    bool takes_none = type == lock_type || (type == rlock_type && PY_VERSION_HEX >= 0x030F0000);
    if (takes_none && (PyTuple_GET_SIZE(args) > 0 || (kwargs && PyDict_GET_SIZE(kwargs)))) {
        PyErr_Format(PyExc_TypeError, "%s() takes no arguments",
                     type == lock_type ? "Lock" : "RLock");
        return NULL;
    }
    LockObject *l = (LockObject *)type->tp_alloc(type, 0);
    if (l != NULL) {
        l->reentrant = PyType_IsSubtype(type, rlock_type);
    }
    return (PyObject *)l;
}

static void
Lock_dealloc(LockObject *l)
{
    PyTypeObject *type = Py_TYPE(l);
    if (l->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)l);
    }
    type->tp_free(l);
    Py_DECREF(type);
}

static PyObject *
Lock_repr(LockObject *l)
{
    const char *state = l->count > 0 ? "locked" : "unlocked";
    if (l->reentrant) {
        return PyUnicode_FromFormat("<%s %s object owner=%lld count=%zd at %p>", state,
                                    Py_TYPE(l)->tp_name, (long long)l->owner, l->count, l);
    }
    return PyUnicode_FromFormat("<%s %s object at %p>", state, Py_TYPE(l)->tp_name, l);
}

#define SHARED_METHODS                                                                             \
    METHOD("acquire", Lock_acquire, FASTKW,                                                        \
           PyDoc_STR("acquire($self, blocking=True, timeout=-1)\n--\n\n"                           \
                     "As threading's, but parks the goroutine.")),                                 \
        METHOD("release", Lock_release, METH_NOARGS, PyDoc_STR("release($self)\n--\n\n")),         \
        METHOD("locked", Lock_locked, METH_NOARGS, PyDoc_STR("locked($self)\n--\n\n")),            \
        METHOD("__enter__", Lock_enter, METH_NOARGS, NULL),                                        \
        METHOD("__exit__", Lock_exit, METH_FASTCALL, NULL),                                        \
        METHOD("_at_fork_reinit", Lock_at_fork_reinit, METH_NOARGS, NULL)

static PyMethodDef lock_methods[] = {
    SHARED_METHODS,
    METHOD("acquire_lock", Lock_acquire, FASTKW, NULL),
    METHOD("release_lock", Lock_release, METH_NOARGS, NULL),
    METHOD("locked_lock", Lock_locked, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef rlock_methods[] = {
    SHARED_METHODS,
    METHOD("_is_owned", RLock_is_owned, METH_NOARGS, NULL),
    METHOD("_recursion_count", RLock_recursion_count, METH_NOARGS, NULL),
    METHOD("_release_save", RLock_release_save, METH_NOARGS, NULL),
    METHOD("_acquire_restore", RLock_acquire_restore, METH_O, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef lock_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(LockObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A lock, as threading.Lock, that parks the goroutine.")},
    {Py_tp_new, Lock_new},
    {Py_tp_dealloc, Lock_dealloc},
    {Py_tp_repr, Lock_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_members, lock_members},
    {0, NULL},
};

static PyType_Slot rlock_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A reentrant lock, as threading.RLock, owned by a goroutine.")},
    {Py_tp_new, Lock_new},
    {Py_tp_dealloc, Lock_dealloc},
    {Py_tp_repr, Lock_repr},
    {Py_tp_methods, rlock_methods},
    {Py_tp_members, lock_members},
    {0, NULL},
};

static PyType_Spec lock_spec = {
    .name = "_thread.lock",
    .basicsize = sizeof(LockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lock_slots,
};

static PyType_Spec rlock_spec = {
    .name = "_thread.RLock",
    .basicsize = sizeof(LockObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_BASETYPE,
    .slots = rlock_slots,
};

int
lock_add_types(PyObject *mod)
{
    lock_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &lock_spec, NULL);
    rlock_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &rlock_spec, NULL);
    if (lock_type == NULL || rlock_type == NULL ||
        PyModule_AddObjectRef(mod, "lock", (PyObject *)lock_type) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(mod, "RLock", (PyObject *)rlock_type);
}
