/* SPDX-License-Identifier: MIT
 *
 * cond.c: Cond (Go's sync.Cond).
 *
 * A waiter must stand in line before it unlocks the locker, so that no signal
 * after that is lost; but unlock may be anybody's code, and may itself wait.  So
 * a place in line is a Place on the heap, which a signal can mark before its
 * goroutine parks.
 *
 * Invariants, with c->mu held: a Place is in the line until it is signalled or
 * its goroutine leaves; p->g is set while its goroutine is parked for it.
 */
#include "runtime.h"

typedef struct Place Place;
struct Place {
    Place *next, *prev;
    G *g; /* parked, or NULL: not yet */
    bool signalled;
};

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards the line */
    Place *first, *last;
    PyObject *locker;
    PyObject *weakrefs;
} Cond;

/* ---- the line, with c->mu held ----------------------------------------------------------- */

static void
line_push(Cond *c, Place *p)
{
    p->prev = c->last;
    *(c->last != NULL ? &c->last->next : &c->first) = p;
    c->last = p;
}

static void
line_remove(Cond *c, Place *p)
{
    *(p->prev != NULL ? &p->prev->next : &c->first) = p->next;
    *(p->next != NULL ? &p->next->prev : &c->last) = p->prev;
}

/* Signal the first in line.  False: nobody is left. */
static bool
signal_one(Cond *c, G ***wake)
{
    Place *p;
    while ((p = c->first) != NULL) {
        G *g = p->g;
        if (g != NULL && !g_claim(g, WAKE_READY)) {
            line_remove(c, p); /* its time ran out: it finds itself not signalled */
            p->next = p->prev = p;
            continue;
        }
        line_remove(c, p);
        p->signalled = true;
        if (g != NULL) {
            g->fired = &g->sg;
            g->schedlink = NULL;
            **wake = g;
            *wake = &g->schedlink;
        }
        return true;
    }
    return false;
}

/* ---- wait -------------------------------------------------------------------------------- */

static int
call_locker(Cond *c, const char *what)
{
    PyObject *r = PyObject_CallMethod(c->locker, what, NULL);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* Lock again, whatever happened: a scope or the end of run() does not cut it
 * short, their error is raised after it.  What lock() raises counts. */
static int
lock_again(M *m, Cond *c, int result)
{
    G *g = m->curg;
    PyObject *exc = result < 0 ? take_raised() : NULL;
    bool insisted = g_insist(g, true);
    int r = call_locker(c, "lock");
    g_insist(g, insisted);
    if (r < 0) {
        if (exc != NULL) {
            PyObject *later = take_raised();
            PyException_SetContext(later, exc); /* steals */
            set_raised(later);
        }
        return -1;
    }
    if (exc != NULL) {
        set_raised(exc);
    }
    return result;
}

static int
park_for_signal(M *m, Cond *c, Place *p, int64_t ns)
{
    G *g = m->curg;
    if (park_check(m, g) < 0) {
        return -1;
    }
    LOCK(&c->mu);
    if (p->signalled) {
        UNLOCK(&c->mu);
        return 0;
    }
    g_will_wait(g);
    p->g = g;
    UNLOCK(&c->mu);
    g->sg.elem = (PyObject *)c; /* the reference is Cond_wait's */
    Wake how = gopark(m, g, ns, WAIT_COND);
    g->sg.elem = NULL;
    return how == WAKE_READY ? 0 : wake_error(g, how, "wait", (PyObject *)c);
}

static int
cond_wait(M *m, Cond *c, int64_t ns)
{
    if (may_wait(m, -1, "wait", (PyObject *)c) < 0) {
        return -1;
    }
    Place *p = calloc(1, sizeof(Place));
    if (p == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    LOCK(&c->mu);
    line_push(c, p);
    UNLOCK(&c->mu);
    int unlocked = call_locker(c, "unlock");
    int r = unlocked < 0 ? -1 : park_for_signal(m, c, p, ns);
    G *wake = NULL, **tail = &wake;
    LOCK(&c->mu);
    if (p->signalled) {
        if (r < 0) { /* something else ended the wait: the signal is for the next one */
            signal_one(c, &tail);
        }
    }
    else if (p->next != p) {
        line_remove(c, p);
    }
    UNLOCK(&c->mu);
    free(p);
    goready_all(wake);
    return unlocked < 0 ? -1 : lock_again(m, c, r);
}

static void
cond_signal(Cond *c, bool all)
{
    G *wake = NULL, **tail = &wake;
    LOCK(&c->mu);
    while (signal_one(c, &tail) && all) {
    }
    UNLOCK(&c->mu);
    goready_all(wake);
}

/* ---- the Python type -------------------------------------------------------------------------- */

static int
is_locker(PyObject *o)
{
    static const char *const needed[] = {"lock", "unlock"};
    for (int i = 0; i < 2; i++) {
        PyObject *method = PyObject_GetAttrString(o, needed[i]);
        bool ok = method != NULL && PyCallable_Check(method);
        Py_XDECREF(method);
        if (!ok) {
            PyErr_Clear();
            PyErr_Format(PyExc_TypeError, "Cond: %R (%.100s) is no locker: it has no method %s()",
                         o, Py_TYPE(o)->tp_name, needed[i]);
            return -1;
        }
    }
    return 0;
}

static PyObject *
Cond_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"locker", NULL};
    PyObject *locker;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Cond", names, &locker) ||
        is_locker(locker) < 0) {
        return NULL;
    }
    Cond *c = (Cond *)type->tp_alloc(type, 0);
    if (c != NULL) {
        c->locker = Py_NewRef(locker);
    }
    return (PyObject *)c;
}

static PyObject *
Cond_wait(Cond *c, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns;
    if (m == NULL || timeout_only("wait", args, nargs, kwnames, &ns) < 0) {
        return NULL;
    }
    Py_INCREF(c);
    int r = cond_wait(m, c, ns);
    Py_DECREF(c);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Cond_signal(Cond *c, PyObject *unused)
{
    (void)unused;
    cond_signal(c, false);
    Py_RETURN_NONE;
}

static PyObject *
Cond_broadcast(Cond *c, PyObject *unused)
{
    (void)unused;
    cond_signal(c, true);
    Py_RETURN_NONE;
}

static PyObject *
Cond_repr(Cond *c)
{
    Py_ssize_t n = 0;
    LOCK(&c->mu);
    for (Place *p = c->first; p != NULL; p = p->next) {
        n++;
    }
    UNLOCK(&c->mu);
    return PyUnicode_FromFormat("<Cond of %R waiters=%zd at %p>", c->locker, n, c);
}

static int
Cond_traverse(Cond *c, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(c));
    Py_VISIT(c->locker);
    return 0;
}

static int
Cond_clear(Cond *c)
{
    Py_CLEAR(c->locker);
    return 0;
}

static void
Cond_dealloc(Cond *c)
{
    PyObject_GC_UnTrack(c);
    Cond_clear(c);
    plain_dealloc((PyObject *)c);
}

static PyMethodDef cond_methods[] = {
    METHOD("wait", Cond_wait, FASTKW,
           PyDoc_STR("wait($self, timeout=None)\n--\n\n"
                     "Unlock the locker, wait for a signal, lock it again.  It is locked again\n"
                     "too when this raises: TimeoutError when the time (seconds) runs out.")),
    METHOD("signal", Cond_signal, METH_NOARGS,
           PyDoc_STR("signal($self)\n--\n\nWake who has waited longest, if anybody waits.")),
    METHOD("broadcast", Cond_broadcast, METH_NOARGS,
           PyDoc_STR("broadcast($self)\n--\n\nWake all who wait.")),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef cond_members[] = {
    {"locker", T_OBJECT, offsetof(Cond, locker), READONLY,
     PyDoc_STR("What wait() unlocks and locks.")},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Cond, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot cond_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Cond(locker)\n--\n\n"
                       "A place to wait for a condition (Go's sync.Cond).  locker is a Mutex or\n"
                       "whatever has lock() and unlock(); else a TypeError.")},
    {Py_tp_new, Cond_new},
    {Py_tp_traverse, Cond_traverse},
    {Py_tp_clear, Cond_clear},
    {Py_tp_dealloc, Cond_dealloc},
    {Py_tp_repr, Cond_repr},
    {Py_tp_methods, cond_methods},
    {Py_tp_members, cond_members},
    {0, NULL},
};

static PyType_Spec cond_spec = {
    .name = "goroutines.sync.Cond",
    .basicsize = sizeof(Cond),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = cond_slots,
};

int
cond_add_types(PyObject *mod)
{
    return add_type(mod, &cond_spec) == NULL ? -1 : 0;
}
