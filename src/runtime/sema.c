/* SPDX-License-Identifier: MIT
 *
 * sema.c: what waits for a count: WaitGroup (Go's sync.WaitGroup).
 *
 * Invariant, with w->mu held: if the counter is zero, nobody waits.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below */
    Py_ssize_t n;
    WaitQ waiters;
    PyObject *weakrefs;
} WaitGroup;

static PyTypeObject *waitgroup_type;

/* 0, or -1 with an exception and the counter unchanged. */
int
waitgroup_add(PyObject *self, Py_ssize_t delta)
{
    WaitGroup *w = (WaitGroup *)self;
    Py_ssize_t n;
    LOCK(&w->mu);
    bool overflow = __builtin_add_overflow(w->n, delta, &n);
    if (overflow || n < 0) {
        Py_ssize_t had = w->n;
        UNLOCK(&w->mu);
        if (overflow) {
            PyErr_Format(PyExc_OverflowError, "WaitGroup counter overflow: it is %zd", had);
            return -1;
        }
        PyErr_Format(PyExc_ValueError, "negative WaitGroup counter: it is %zd, and %zd was added",
                     had, delta);
        return -1;
    }
    w->n = n;
    G *wake = NULL;
    if (n == 0) {
        waitq_wake_all(&w->waiters, &wake);
    }
    UNLOCK(&w->mu);
    goready_all(wake);
    return 0;
}

static PyObject *
WaitGroup_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    Py_ssize_t delta = 1;
    if (nargs + nkw > 1 || (nkw == 1 && PyUnicode_CompareWithASCIIString(
                                            PyTuple_GET_ITEM(kwnames, 0), "delta") != 0)) {
        PyErr_SetString(PyExc_TypeError, "WaitGroup.add(delta=1) takes one int");
        return NULL;
    }
    if (nargs + nkw == 1) {
        if (!PyLong_Check(args[0])) {
            PyErr_Format(PyExc_TypeError, "WaitGroup.add: delta must be an int, not %.100s",
                         Py_TYPE(args[0])->tp_name);
            return NULL;
        }
        delta = PyLong_AsSsize_t(args[0]);
        if (delta == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (waitgroup_add(self, delta) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
WaitGroup_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (waitgroup_add(self, -1) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
waitgroup_wait(M *m, WaitGroup *w, int64_t ns)
{
    if (w->n == 0) {
        return 0;
    }
    if (may_wait(m, ns, "wait", (PyObject *)w) < 0) {
        return -1;
    }
    LOCK(&w->mu);
    if (w->n == 0) {
        UNLOCK(&w->mu);
        return 0;
    }
    return wait_in(m, &w->waiters, &w->mu, ns, WAIT_WAITGROUP, "wait", (PyObject *)w);
}

static PyObject *
WaitGroup_wait(WaitGroup *w, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t ns;
    M *m = getm();
    if (m == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:wait", names, &timeout) ||
        timeout_arg(timeout, &ns) < 0 || waitgroup_wait(m, w, ns) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
WaitGroup_go(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    PyObject *fn = callable_arg("WaitGroup.go", args, nargs);
    if (m == NULL || fn == NULL || may_start(fn) < 0 || waitgroup_add(self, 1) < 0) {
        return NULL;
    }
    G *g = g_new(m, fn, args + 1, nargs - 1, kwnames);
    if (g == NULL) {
        PyObject *exc = take_raised();
        waitgroup_add(self, -1);
        set_raised(exc);
        return NULL;
    }
    g->waitgroup = Py_NewRef(self);
    g_start(m, g);
    return (PyObject *)g;
}

static PyObject *
WaitGroup_repr(WaitGroup *w)
{
    return PyUnicode_FromFormat("<WaitGroup counter=%zd at %p>", w->n, w);
}

static PyMethodDef waitgroup_methods[] = {
    METHOD("add", WaitGroup_add, FASTKW,
           PyDoc_STR("add($self, delta=1)\n--\n\n"
                     "Add delta, which may be negative, to the counter; at zero all waiters go\n"
                     "on.  Raises ValueError if the counter would become negative.")),
    METHOD("done", WaitGroup_done, METH_NOARGS,
           PyDoc_STR("done($self)\n--\n\nThe same as add(-1).")),
    METHOD("wait", WaitGroup_wait, METH_VARARGS | METH_KEYWORDS,
           PyDoc_STR("wait($self, timeout=None)\n--\n\n"
                     "Wait until the counter is zero.  Raises TimeoutError when the time\n"
                     "(seconds) runs out.")),
    METHOD("go", WaitGroup_go, FASTKW,
           PyDoc_STR("go($self, fn, /, *args, **kwargs)\n--\n\n"
                     "add(1), start fn in a new goroutine, and done() when it ends, however it\n"
                     "ends (Go 1.25's WaitGroup.Go).  Returns the Goroutine.")),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef waitgroup_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(WaitGroup, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot waitgroup_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("WaitGroup()\n--\n\n"
                       "Waits for a number of goroutines to finish (Go's sync.WaitGroup).")},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, WaitGroup_repr},
    {Py_tp_methods, waitgroup_methods},
    {Py_tp_members, waitgroup_members},
    {0, NULL},
};

static PyType_Spec waitgroup_spec = {
    .name = "goroutines.WaitGroup",
    .basicsize = sizeof(WaitGroup),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = waitgroup_slots,
};

int
sema_add_types(PyObject *mod)
{
    waitgroup_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &waitgroup_spec, NULL);
    return waitgroup_type == NULL
               ? -1
               : PyModule_AddObjectRef(mod, "WaitGroup", (PyObject *)waitgroup_type);
}
