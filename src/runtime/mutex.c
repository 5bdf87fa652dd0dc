/* SPDX-License-Identifier: MIT
 *
 * mutex.c: Mutex and RWMutex (Go's sync.Mutex, sync.RWMutex).
 *
 * A Mutex has Go's two modes.  Normally unlock frees it and wakes the first
 * waiter, which competes with whoever comes along; it loses often, but the
 * winner needs no switch.  A waiter that has lost for 1 ms makes the mutex
 * starving: then unlock hands it over, and nobody overtakes.  It ends with a
 * waiter that waited for less, or the last one.  One waiter at most is woken and
 * on its way (`woken`).
 *
 * An RWMutex is always handed over: the readers that came while a writer held
 * it go before the next writer, and a waiting writer holds new readers back.
 *
 * Invariants, with mu held:
 *   - a starving Mutex is locked;
 *   - an RWMutex has readers or a writer, not both; readers wait only while a
 *     writer holds it or waits; writers wait only while it is held.
 * Neither belongs to a goroutine: who locks need not be who unlocks.
 */
#include "runtime.h"

#define STARVING_NS ((int64_t)1000000)

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below */
    bool locked, woken, starving;
    WaitQ waiters;
    PyObject *weakrefs;
} Mutex;

/* ---- Mutex ---------------------------------------------------------------------------- */

static inline bool
mutex_try(Mutex *x)
{
    LOCK(&x->mu);
    bool ours = !x->locked;
    x->locked = true;
    UNLOCK(&x->mu);
    return ours;
}

/* One turn of a waiter: 1: it has the mutex, 0: it was woken and lost, -1. */
static int
mutex_wait(M *m, Mutex *x, int64_t left, int64_t began, bool again)
{
    G *g = m->curg;
    LOCK(&x->mu);
    if (again) {
        x->woken = false; /* that was us */
    }
    if (!x->locked) {
        x->locked = true;
        UNLOCK(&x->mu);
        return 1;
    }
    if (left == 0) {
        UNLOCK(&x->mu);
        return wake_error(g, WAKE_TIMEOUT, "lock", (PyObject *)x);
    }
    if (again) {
        x->starving = x->starving || nanotime() - began > STARVING_NS;
        waitq_push_front(&x->waiters, &g->sg);
    }
    else {
        waitq_push(&x->waiters, &g->sg);
    }
    g->sg.n = 0;
    if (wait_queued(m, &x->waiters, &x->mu, left, WAIT_MUTEX_LOCK, "lock", (PyObject *)x) < 0) {
        return -1;
    }
    return (int)g->sg.n; /* 1: handed over */
}

static NOINLINE int
mutex_lock_slow(M *m, Mutex *x, int64_t ns)
{
    if (may_wait(m, ns, "lock", (PyObject *)x) < 0) {
        return -1;
    }
    int64_t began = nanotime(), clock = ns > 0 ? clock_now() : 0, left = ns;
    int r;
    for (bool again = false; (r = mutex_wait(m, x, left, began, again)) == 0; again = true) {
        left = ns > 0 ? time_left(ns, clock) : ns;
    }
    if (r == 1 && x->starving) {
        LOCK(&x->mu);
        if (!waitq_has_waiter(&x->waiters) || nanotime() - began < STARVING_NS) {
            x->starving = false;
        }
        UNLOCK(&x->mu);
    }
    return r < 0 ? -1 : 0;
}

/* 0, or -1 with an exception. */
static inline int
mutex_lock(Mutex *x, int64_t ns)
{
    if (LIKELY(mutex_try(x))) {
        return 0;
    }
    M *m = getm();
    return m == NULL ? -1 : mutex_lock_slow(m, x, ns);
}

static inline int
mutex_unlock(Mutex *x)
{
    Sudog *sg = NULL;
    LOCK(&x->mu);
    if (UNLIKELY(!x->locked)) {
        UNLOCK(&x->mu);
        PyErr_Format(PyExc_RuntimeError, "sync: unlock of unlocked mutex: %R", x);
        return -1;
    }
    if (UNLIKELY(x->waiters.first != NULL) && !x->woken) {
        sg = waitq_claim(&x->waiters);
    }
    if (sg != NULL) {
        sg->n = x->starving;
        x->woken = !x->starving;
    }
    x->locked = sg != NULL && x->starving;
    x->starving = x->locked;
    UNLOCK(&x->mu);
    if (sg != NULL) {
        goready(sg->g);
    }
    return 0;
}

static PyObject *
Mutex_lock(Mutex *x, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t ns;
    if (timeout_only("lock", args, nargs, kwnames, &ns) < 0 || mutex_lock(x, ns) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Mutex_unlock(Mutex *x, PyObject *unused)
{
    (void)unused;
    return mutex_unlock(x) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Mutex_try_lock(Mutex *x, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(mutex_try(x));
}

static PyObject *
Mutex_locked(Mutex *x, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(x->locked);
}

static PyObject *
Mutex_enter(Mutex *x, PyObject *unused)
{
    (void)unused;
    return mutex_lock(x, -1) < 0 ? NULL : Py_NewRef(x);
}

static PyObject *
Mutex_exit(Mutex *x, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return mutex_unlock(x) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Mutex_repr(Mutex *x)
{
    return PyUnicode_FromFormat("<Mutex %s at %p>", x->locked ? "locked" : "unlocked", x);
}

/* ---- RWMutex --------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below */
    bool writing;
    Py_ssize_t readers;
    WaitQ to_read, to_write;
    PyObject *weakrefs;
} RWMutex;

typedef struct {
    PyObject_HEAD
    RWMutex *rw;
} RWReader;

static PyTypeObject *rwreader_type;

/* All below with rw->mu held. */

static bool
can_read(RWMutex *rw)
{
    return !rw->writing && !waitq_has_waiter(&rw->to_write);
}

static bool
can_write(RWMutex *rw)
{
    return !rw->writing && rw->readers == 0;
}

static void
let_readers_in(RWMutex *rw, G **wake)
{
    G *in = NULL;
    waitq_wake_all(&rw->to_read, &in);
    for (G *g = in; g != NULL; g = g->schedlink) {
        rw->readers++;
    }
    *wake = in;
}

/* After an unlock, or when a waiting writer has left: hand it on. */
static void
hand_on(RWMutex *rw, bool readers_first, G **wake)
{
    if (readers_first || can_read(rw)) {
        let_readers_in(rw, wake);
    }
    if (can_write(rw)) {
        Sudog *sg = waitq_claim(&rw->to_write);
        if (sg != NULL) {
            rw->writing = true;
            sg->g->schedlink = NULL;
            *wake = sg->g;
        }
    }
}

static bool
take(RWMutex *rw, bool write)
{
    bool free = write ? can_write(rw) : can_read(rw);
    if (free && write) {
        rw->writing = true;
    }
    else if (free) {
        rw->readers++;
    }
    return free;
}

static bool
rw_try(RWMutex *rw, bool write)
{
    LOCK(&rw->mu);
    bool ours = take(rw, write);
    UNLOCK(&rw->mu);
    return ours;
}

static NOINLINE int
rw_lock_slow(M *m, RWMutex *rw, bool write, int64_t ns)
{
    const char *op = write ? "lock" : "rlock";
    WaitReason why = write ? WAIT_RWMUTEX_LOCK : WAIT_RWMUTEX_RLOCK;
    if (may_wait(m, ns, op, (PyObject *)rw) < 0) {
        return -1;
    }
    LOCK(&rw->mu);
    if (take(rw, write)) {
        UNLOCK(&rw->mu);
        return 0;
    }
    WaitQ *q = write ? &rw->to_write : &rw->to_read;
    if (wait_in(m, q, &rw->mu, ns, why, op, (PyObject *)rw) == 0) {
        return 0;
    }
    if (write) { /* the readers we held back */
        G *wake = NULL;
        LOCK(&rw->mu);
        hand_on(rw, false, &wake);
        UNLOCK(&rw->mu);
        goready_all(wake);
    }
    return -1;
}

static inline int
rw_lock(RWMutex *rw, bool write, int64_t ns)
{
    if (LIKELY(rw_try(rw, write))) {
        return 0;
    }
    M *m = getm();
    return m == NULL ? -1 : rw_lock_slow(m, rw, write, ns);
}

static inline int
rw_unlock(RWMutex *rw, bool write)
{
    G *wake = NULL;
    LOCK(&rw->mu);
    if (UNLIKELY(write ? !rw->writing : rw->readers == 0)) {
        UNLOCK(&rw->mu);
        PyErr_Format(PyExc_RuntimeError,
                     write ? "sync: unlock of unlocked RWMutex: %R"
                           : "sync: runlock of unlocked RWMutex: %R",
                     rw);
        return -1;
    }
    if (write) {
        rw->writing = false;
    }
    else {
        rw->readers--;
    }
    hand_on(rw, write, &wake);
    UNLOCK(&rw->mu);
    goready_all(wake);
    return 0;
}

#define RW_METHODS(lock, unlock, try_lock, write)                                                  \
    static PyObject *RWMutex_##lock(RWMutex *rw, PyObject *const *args, Py_ssize_t nargs,          \
                                    PyObject *kwnames)                                             \
    {                                                                                              \
        int64_t ns;                                                                                \
        if (timeout_only(#lock, args, nargs, kwnames, &ns) < 0 || rw_lock(rw, write, ns) < 0) {    \
            return NULL;                                                                           \
        }                                                                                          \
        Py_RETURN_NONE;                                                                            \
    }                                                                                              \
    static PyObject *RWMutex_##unlock(RWMutex *rw, PyObject *unused)                               \
    {                                                                                              \
        (void)unused;                                                                              \
        return rw_unlock(rw, write) < 0 ? NULL : Py_NewRef(Py_None);                               \
    }                                                                                              \
    static PyObject *RWMutex_##try_lock(RWMutex *rw, PyObject *unused)                             \
    {                                                                                              \
        (void)unused;                                                                              \
        return PyBool_FromLong(rw_try(rw, write));                                                 \
    }

RW_METHODS(lock, unlock, try_lock, true)
RW_METHODS(rlock, runlock, try_rlock, false)

static PyObject *
RWMutex_enter(RWMutex *rw, PyObject *unused)
{
    (void)unused;
    return rw_lock(rw, true, -1) < 0 ? NULL : Py_NewRef(rw);
}

static PyObject *
RWMutex_exit(RWMutex *rw, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return rw_unlock(rw, true) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
RWMutex_repr(RWMutex *rw)
{
    if (rw->readers > 0) {
        return PyUnicode_FromFormat("<RWMutex readers=%zd at %p>", rw->readers, rw);
    }
    return PyUnicode_FromFormat("<RWMutex %s at %p>", rw->writing ? "locked" : "unlocked", rw);
}

/* ---- its reader ----------------------------------------------------------------------- */

static PyObject *
RWMutex_get_reader(RWMutex *rw, void *unused)
{
    (void)unused;
    RWReader *r = (RWReader *)rwreader_type->tp_alloc(rwreader_type, 0);
    if (r != NULL) {
        r->rw = (RWMutex *)Py_NewRef(rw);
    }
    return (PyObject *)r;
}

static PyObject *
RWReader_lock(RWReader *r, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return RWMutex_rlock(r->rw, args, nargs, kwnames);
}

static PyObject *
RWReader_unlock(RWReader *r, PyObject *unused)
{
    return RWMutex_runlock(r->rw, unused);
}

static PyObject *
RWReader_try_lock(RWReader *r, PyObject *unused)
{
    return RWMutex_try_rlock(r->rw, unused);
}

static PyObject *
RWReader_enter(RWReader *r, PyObject *unused)
{
    (void)unused;
    return rw_lock(r->rw, false, -1) < 0 ? NULL : Py_NewRef(r);
}

static PyObject *
RWReader_exit(RWReader *r, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return rw_unlock(r->rw, false) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
RWReader_repr(RWReader *r)
{
    return PyUnicode_FromFormat("<reader of %R>", r->rw);
}

static void
RWReader_dealloc(RWReader *r)
{
    PyTypeObject *type = Py_TYPE(r);
    Py_CLEAR(r->rw);
    type->tp_free(r);
    Py_DECREF(type);
}

/* ---- the Python types -------------------------------------------------------------------- */

#define LOCK_DOC(name, what)                                                                       \
    PyDoc_STR(name "($self, timeout=None)\n--\n\n" what                                            \
                   "  Raises TimeoutError when the time (seconds) runs out.")

static PyMethodDef mutex_methods[] = {
    METHOD("lock", Mutex_lock, FASTKW, LOCK_DOC("lock", "Lock it, waiting while it is locked.")),
    METHOD("unlock", Mutex_unlock, METH_NOARGS,
           PyDoc_STR("unlock($self)\n--\n\n"
                     "Unlock it, whoever locked it.  Raises RuntimeError if it is not locked.")),
    METHOD("try_lock", Mutex_try_lock, METH_NOARGS,
           PyDoc_STR("try_lock($self)\n--\n\nLock it if it is free; return whether it was.")),
    METHOD("locked", Mutex_locked, METH_NOARGS,
           PyDoc_STR("locked($self)\n--\n\nWhether it is locked.")),
    METHOD("__enter__", Mutex_enter, METH_NOARGS, NULL),
    METHOD("__exit__", Mutex_exit, METH_FASTCALL, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef rwmutex_methods[] = {
    METHOD("lock", RWMutex_lock, FASTKW,
           LOCK_DOC("lock", "Lock it for writing, waiting while anybody holds it.")),
    METHOD("unlock", RWMutex_unlock, METH_NOARGS,
           PyDoc_STR("unlock($self)\n--\n\n"
                     "End writing.  Raises RuntimeError if it is not locked for writing.")),
    METHOD("try_lock", RWMutex_try_lock, METH_NOARGS,
           PyDoc_STR("try_lock($self)\n--\n\n"
                     "Lock it for writing if it is free; return whether it was.")),
    METHOD("rlock", RWMutex_rlock, FASTKW,
           LOCK_DOC("rlock", "Lock it for reading, waiting while a writer holds it or waits.")),
    METHOD("runlock", RWMutex_runlock, METH_NOARGS,
           PyDoc_STR("runlock($self)\n--\n\n"
                     "End reading.  Raises RuntimeError if nobody holds it for reading.")),
    METHOD("try_rlock", RWMutex_try_rlock, METH_NOARGS,
           PyDoc_STR("try_rlock($self)\n--\n\n"
                     "Lock it for reading if that needs no waiting; return whether it was.")),
    METHOD("__enter__", RWMutex_enter, METH_NOARGS, NULL),
    METHOD("__exit__", RWMutex_exit, METH_FASTCALL, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef rwreader_methods[] = {
    METHOD("lock", RWReader_lock, FASTKW, LOCK_DOC("lock", "The rlock of its RWMutex.")),
    METHOD("unlock", RWReader_unlock, METH_NOARGS,
           PyDoc_STR("unlock($self)\n--\n\nThe runlock of its RWMutex.")),
    METHOD("try_lock", RWReader_try_lock, METH_NOARGS,
           PyDoc_STR("try_lock($self)\n--\n\nThe try_rlock of its RWMutex.")),
    METHOD("__enter__", RWReader_enter, METH_NOARGS, NULL),
    METHOD("__exit__", RWReader_exit, METH_FASTCALL, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef rwmutex_getset[] = {
    {"reader", (getter)RWMutex_get_reader, NULL,
     PyDoc_STR("Its reading side, a lock of its own kind: `with rw.reader:`."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef mutex_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Mutex, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef rwmutex_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RWMutex, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot mutex_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR(
                    "Mutex()\n--\n\n"
                    "Mutual exclusion (Go's sync.Mutex): `with mutex:`.  Not reentrant, and not\n"
                    "owned by a goroutine.  A waiter that has starved for 1 ms gets it next.")},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, Mutex_repr},
    {Py_tp_methods, mutex_methods},
    {Py_tp_members, mutex_members},
    {0, NULL},
};

static PyType_Slot rwmutex_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("RWMutex()\n--\n\n"
                       "Many readers or one writer (Go's sync.RWMutex): `with rw:` writes, `with\n"
                       "rw.reader:` reads.  A waiting writer holds new readers back, so a reader\n"
                       "must not lock it a second time.")},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, RWMutex_repr},
    {Py_tp_methods, rwmutex_methods},
    {Py_tp_members, rwmutex_members},
    {Py_tp_getset, rwmutex_getset},
    {0, NULL},
};

static PyType_Slot rwreader_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The reading side of an RWMutex.")},
    {Py_tp_dealloc, RWReader_dealloc},
    {Py_tp_repr, RWReader_repr},
    {Py_tp_methods, rwreader_methods},
    {0, NULL},
};

static PyType_Spec mutex_spec = {
    .name = "goroutines.sync.Mutex",
    .basicsize = sizeof(Mutex),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = mutex_slots,
};

static PyType_Spec rwmutex_spec = {
    .name = "goroutines.sync.RWMutex",
    .basicsize = sizeof(RWMutex),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rwmutex_slots,
};

static PyType_Spec rwreader_spec = {
    .name = "goroutines.sync.RWReader",
    .basicsize = sizeof(RWReader),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = rwreader_slots,
};

int
mutex_add_types(PyObject *mod)
{
    rwreader_type = add_type(mod, &rwreader_spec);
    return rwreader_type != NULL && add_type(mod, &mutex_spec) != NULL &&
                   add_type(mod, &rwmutex_spec) != NULL
               ? 0
               : -1;
}
