/* SPDX-License-Identifier: MIT
 *
 * once.c: Once (Go's sync.Once).
 *
 * Invariants, with o->mu held: somebody waits only while o->running is the id
 * of the goroutine whose function runs; after `done` nothing changes any more.
 */
#include "runtime.h"

typedef struct {
    PyObject_HEAD
    Lock mu; /* guards all below */
    _Atomic(bool) done;
    int64_t running; /* G.id; 0: nobody's */
    WaitQ waiters;
    PyObject *weakrefs;
} Once;

/* 1: we are to call the function, 0: it was called, -1: exception. */
static int
once_begin(M *m, Once *o)
{
    int64_t me = current_g(m)->id;
    LOCK(&o->mu);
    while (!o->done && o->running != 0) {
        bool nested = o->running == me;
        UNLOCK(&o->mu);
        if (nested) {
            PyErr_Format(PyExc_RuntimeError,
                         "Once.do called from within its own function, which would wait for its "
                         "own end: %R",
                         o);
            return -1;
        }
        if (may_wait(m, -1, "do", (PyObject *)o) < 0) {
            return -1;
        }
        LOCK(&o->mu);
        if (!o->done && o->running != 0) {
            return wait_in(m, &o->waiters, &o->mu, -1, WAIT_ONCE, "do", (PyObject *)o);
        }
    }
    bool ours = !o->done;
    if (ours) {
        o->running = me;
    }
    UNLOCK(&o->mu);
    return ours;
}

static void
once_end(Once *o)
{
    G *wake = NULL;
    LOCK(&o->mu);
    o->done = true;
    o->running = 0;
    waitq_wake_all(&o->waiters, &wake);
    UNLOCK(&o->mu);
    goready_all(wake);
}

static PyObject *
Once_do(Once *o, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"fn", NULL};
    PyObject *fn;
    if (named_args("do", names, 1, args, nargs, kwnames, &fn) < 0 ||
        callable_arg("Once.do", &fn, 1) == NULL) {
        return NULL;
    }
    if (LIKELY(atomic_load_explicit(&o->done, memory_order_acquire))) {
        Py_RETURN_NONE;
    }
    M *m = getm();
    int r = m == NULL ? -1 : once_begin(m, o);
    if (r <= 0) {
        return r < 0 ? NULL : Py_NewRef(Py_None);
    }
    Py_INCREF(o);
    PyObject *result = PyObject_CallNoArgs(fn);
    once_end(o);
    Py_DECREF(o);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    Py_RETURN_NONE;
}

static PyObject *
Once_repr(Once *o)
{
    return PyUnicode_FromFormat("<Once %s at %p>",
                                o->done           ? "done"
                                : o->running != 0 ? "running"
                                                  : "not done",
                                o);
}

static PyMethodDef once_methods[] = {
    METHOD("do", Once_do, FASTKW,
           PyDoc_STR("do($self, fn)\n--\n\n"
                     "Call fn() if this is the first call of do; else wait until that one has\n"
                     "ended.  If fn raises, that goes to its caller and counts as done.")),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef once_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Once, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot once_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Once()\n--\n\nCalls one function, once (Go's sync.Once).")},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, Once_repr},
    {Py_tp_methods, once_methods},
    {Py_tp_members, once_members},
    {0, NULL},
};

static PyType_Spec once_spec = {
    .name = "goroutines.sync.Once",
    .basicsize = sizeof(Once),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = once_slots,
};

int
once_add_types(PyObject *mod)
{
    return add_type(mod, &once_spec) == NULL ? -1 : 0;
}
