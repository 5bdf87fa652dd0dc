/* SPDX-License-Identifier: MIT
 *
 * semaphore.c: Semaphore, weighted and first come, first served (Go's
 * x/sync/semaphore).
 *
 * Invariants, with s->mu held:
 *   - 0 <= held <= size;
 *   - the first waiter wants more than is free.  Those behind it wait too, even
 *     if they want less: else who wants much would wait for ever.
 * A waiter's Sudog.n is what it wants; it is counted as held by who wakes it.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below */
    Py_ssize_t size, held;
    WaitQ waiters;
    PyObject *weakrefs;
} Semaphore;

/* ---- with s->mu held ---------------------------------------------------------------- */

static bool
take(Semaphore *s, Py_ssize_t n)
{
    if (s->size - s->held < n || waitq_has_waiter(&s->waiters)) {
        return false;
    }
    s->held += n;
    return true;
}

/* Let in, in their order, who fits; `wake` gets them. */
static void
let_in(Semaphore *s, G **wake)
{
    while (waitq_has_waiter(&s->waiters) && s->waiters.first->n <= s->size - s->held) {
        Sudog *sg = waitq_claim(&s->waiters);
        if (sg == NULL) {
            return;
        }
        s->held += sg->n;
        sg->g->schedlink = NULL;
        *wake = sg->g;
        wake = &sg->g->schedlink;
    }
}

/* ---- acquire, release ------------------------------------------------------------------ */

static NOINLINE int
acquire_slow(M *m, Semaphore *s, Py_ssize_t n, int64_t ns)
{
    if (may_wait(m, ns, "acquire", (PyObject *)s) < 0) {
        return -1;
    }
    LOCK(&s->mu);
    if (take(s, n)) {
        UNLOCK(&s->mu);
        return 0;
    }
    m->curg->sg.n = n;
    if (wait_in(m, &s->waiters, &s->mu, ns, WAIT_SEMAPHORE, "acquire", (PyObject *)s) == 0) {
        return 0;
    }
    G *wake = NULL; /* who stood behind us may fit */
    LOCK(&s->mu);
    let_in(s, &wake);
    UNLOCK(&s->mu);
    goready_all(wake);
    return -1;
}

static int
acquire(Semaphore *s, Py_ssize_t n, int64_t ns)
{
    if (n > s->size) {
        PyErr_Format(PyExc_ValueError, "acquire(%zd): %R can never hold that much", n, s);
        return -1;
    }
    LOCK(&s->mu);
    bool ours = take(s, n);
    UNLOCK(&s->mu);
    if (LIKELY(ours)) {
        return 0;
    }
    M *m = getm();
    return m == NULL ? -1 : acquire_slow(m, s, n, ns);
}

static int
release(Semaphore *s, Py_ssize_t n)
{
    G *wake = NULL;
    LOCK(&s->mu);
    if (n > s->held) {
        UNLOCK(&s->mu);
        PyErr_Format(PyExc_RuntimeError, "release(%zd): semaphore released more than held: %R", n,
                     s);
        return -1;
    }
    s->held -= n;
    let_in(s, &wake);
    UNLOCK(&s->mu);
    goready_all(wake);
    return 0;
}

/* ---- the Python type --------------------------------------------------------------------- */

/* An int that is not negative; NULL: `missing`. */
static int
count_arg(const char *who, PyObject *o, Py_ssize_t missing, Py_ssize_t *n)
{
    *n = missing;
    if (o == NULL) {
        return 0;
    }
    if (!PyLong_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s: n must be an int, not %.100s", who, Py_TYPE(o)->tp_name);
        return -1;
    }
    *n = PyLong_AsSsize_t(o);
    if (*n < 0) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s: n must not be negative or beyond memory: %R", who, o);
        return -1;
    }
    return 0;
}

static PyObject *
Semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"n", NULL};
    PyObject *arg;
    Py_ssize_t n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Semaphore", names, &arg) ||
        count_arg("Semaphore", arg, 0, &n) < 0) {
        return NULL;
    }
    Semaphore *s = (Semaphore *)type->tp_alloc(type, 0);
    if (s != NULL) {
        s->size = n;
    }
    return (PyObject *)s;
}

static PyObject *
Semaphore_acquire(Semaphore *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", "timeout", NULL};
    PyObject *got[2];
    Py_ssize_t n;
    int64_t ns;
    if (named_args("acquire", names, 0, args, nargs, kwnames, got) < 0 ||
        count_arg("acquire", got[0], 1, &n) < 0 || timeout_arg(got[1], &ns) < 0 ||
        acquire(s, n, ns) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Semaphore_try_acquire(Semaphore *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    PyObject *got;
    Py_ssize_t n;
    if (named_args("try_acquire", names, 0, args, nargs, kwnames, &got) < 0 ||
        count_arg("try_acquire", got, 1, &n) < 0) {
        return NULL;
    }
    LOCK(&s->mu);
    bool ours = take(s, n);
    UNLOCK(&s->mu);
    return PyBool_FromLong(ours);
}

static PyObject *
Semaphore_release(Semaphore *s, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n", NULL};
    PyObject *got;
    Py_ssize_t n;
    if (named_args("release", names, 0, args, nargs, kwnames, &got) < 0 ||
        count_arg("release", got, 1, &n) < 0 || release(s, n) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Semaphore_enter(Semaphore *s, PyObject *unused)
{
    (void)unused;
    return acquire(s, 1, -1) < 0 ? NULL : Py_NewRef(s);
}

static PyObject *
Semaphore_exit(Semaphore *s, PyObject *const *args, Py_ssize_t nargs)
{
    (void)args;
    (void)nargs;
    return release(s, 1) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
Semaphore_repr(Semaphore *s)
{
    Py_ssize_t waiters = 0;
    LOCK(&s->mu);
    for (Sudog *sg = s->waiters.first; sg != NULL; sg = sg->next) {
        waiters++;
    }
    UNLOCK(&s->mu);
    return PyUnicode_FromFormat("<Semaphore held=%zd of %zd waiters=%zd at %p>", s->held, s->size,
                                waiters, s);
}

static PyMethodDef semaphore_methods[] = {
    METHOD("acquire", Semaphore_acquire, FASTKW,
           PyDoc_STR("acquire($self, n=1, timeout=None)\n--\n\n"
                     "Take n, waiting until so much is free and all who came before were served.\n"
                     "Raises TimeoutError when the time (seconds) runs out, ValueError at once if\n"
                     "n is more than there ever can be.")),
    METHOD("try_acquire", Semaphore_try_acquire, FASTKW,
           PyDoc_STR("try_acquire($self, n=1)\n--\n\n"
                     "Take n if that needs no waiting; return whether it was taken.")),
    METHOD("release", Semaphore_release, FASTKW,
           PyDoc_STR("release($self, n=1)\n--\n\n"
                     "Give n back.  Raises RuntimeError if so much is not held.")),
    METHOD("__enter__", Semaphore_enter, METH_NOARGS, NULL),
    METHOD("__exit__", Semaphore_exit, METH_FASTCALL, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef semaphore_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Semaphore, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot semaphore_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR(
                    "Semaphore(n)\n--\n\n"
                    "Lets n be held at a time (Go's x/sync/semaphore.Weighted); `with` takes one.\n"
                    "First come, first served: who wants much is not overtaken.\n"
                    "Raises ValueError if n is negative, TypeError if it is no int.")},
    {Py_tp_new, Semaphore_new},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, Semaphore_repr},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_members, semaphore_members},
    {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "goroutines.sync.Semaphore",
    .basicsize = sizeof(Semaphore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

int
semaphore_add_types(PyObject *mod)
{
    return add_type(mod, &semaphore_spec) == NULL ? -1 : 0;
}
