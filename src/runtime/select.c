/* SPDX-License-Identifier: MIT
 *
 * select.c: waiting for several channels at once, in Go's three passes.
 *
 *   1 look     with all channels locked, choose among the ready cases; each is
 *              as likely as the others (a reservoir of one: the k-th ready
 *              case replaces the choice with probability 1/k)
 *   2 enqueue  none was ready: a Sudog into every queue, unlock, park
 *   3 dequeue  the waker took one Sudog (g->fired); take the others back
 *
 * Two selects can meet: a select's Sudogs are ordinary waiters, and whoever
 * takes one must claim its goroutine first, which works once.
 *
 * Locks: all channels of the cases, in the order of their addresses.
 */
#include "runtime.h"

PyTypeObject *case_type;

/* ---- cases ------------------------------------------------------------------------- */

static PyObject *
case_new(PyObject *chan, PyObject *value, bool is_send, bool want_ok, const char *who)
{
    Chan *c = NULL;
    if (chan != Py_None && (c = chan_arg(chan, who)) == NULL) {
        return NULL;
    }
    Case *k = (Case *)case_type->tp_alloc(case_type, 0);
    if (k != NULL) {
        k->chan = (Chan *)Py_XNewRef((PyObject *)c);
        k->value = Py_XNewRef(value);
        k->is_send = is_send;
        k->want_ok = want_ok;
    }
    return (PyObject *)k;
}

static PyObject *
make_recv(PyObject *mod, PyObject *chan)
{
    (void)mod;
    return case_new(chan, NULL, false, false, "recv");
}

static PyObject *
make_recv_ok(PyObject *mod, PyObject *chan)
{
    (void)mod;
    return case_new(chan, NULL, false, true, "recv_ok");
}

static PyObject *
make_send(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "send(ch, value) takes 2 arguments, got %zd", nargs);
        return NULL;
    }
    return case_new(args[0], args[1], true, false, "send");
}

static int
Case_traverse(Case *k, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(k));
    Py_VISIT(k->chan);
    Py_VISIT(k->value);
    return 0;
}

static void
Case_dealloc(Case *k)
{
    PyTypeObject *type = Py_TYPE(k);
    PyObject_GC_UnTrack(k);
    Py_TRASHCAN_BEGIN(k, Case_dealloc) Py_CLEAR(k->chan);
    Py_CLEAR(k->value);
    type->tp_free(k);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyObject *
Case_repr(Case *k)
{
    PyObject *chan = k->chan != NULL ? (PyObject *)k->chan : Py_None;
    if (k->is_send) {
        return PyUnicode_FromFormat("send(%R, %R)", chan, k->value);
    }
    return PyUnicode_FromFormat("%s(%R)", k->want_ok ? "recv_ok" : "recv", chan);
}

/* ---- locks --------------------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED

/* The distinct channels of the cases, in the order of their addresses. */
typedef struct {
    Chan **v;
    Py_ssize_t n;
    Chan *few[8];
} LockOrder;

static int
by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)*(Chan *const *)a, y = (uintptr_t)*(Chan *const *)b;
    return (x > y) - (x < y);
}

static int
order_make(LockOrder *o, Case *const *cases, Py_ssize_t n)
{
    o->v = o->few;
    if (n > (Py_ssize_t)Py_ARRAY_LENGTH(o->few) &&
        (o->v = malloc((size_t)n * sizeof(Chan *))) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t all = 0, kept = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (cases[i]->chan != NULL) {
            o->v[all++] = cases[i]->chan;
        }
    }
    qsort(o->v, (size_t)all, sizeof(Chan *), by_address);
    for (Py_ssize_t i = 0; i < all; i++) {
        if (kept == 0 || o->v[kept - 1] != o->v[i]) {
            o->v[kept++] = o->v[i];
        }
    }
    o->n = kept;
    return 0;
}

static void
order_lock(LockOrder *o)
{
    for (Py_ssize_t i = 0; i < o->n; i++) {
        LOCK(&o->v[i]->mu);
    }
}

static void
order_unlock(LockOrder *o)
{
    for (Py_ssize_t i = o->n; i-- > 0;) {
        UNLOCK(&o->v[i]->mu);
    }
}

static void
order_free(LockOrder *o)
{
    if (o->v != o->few) {
        free(o->v);
    }
}

#else

typedef struct {
    char unused;
} LockOrder;
#define order_make(o, cases, n) ((void)(o), 0)
#define order_lock(o) ((void)(o))
#define order_unlock(o) ((void)(o))
#define order_free(o) ((void)(o))

#endif

/* ---- pass 1 ---------------------------------------------------------------------------- */

static inline uint64_t
next_random(M *m)
{
    uint64_t x = m->rng; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return m->rng = x;
}

static inline bool
case_ready(Case *k)
{
    Chan *c = k->chan;
    if (c == NULL) {
        return false;
    }
    if (k->is_send) {
        return c->sealed || c->len < c->cap ||
               (c->recvq.first != NULL && waitq_has_waiter(&c->recvq));
    }
    return c->len > 0 || c->closed || (c->sendq.first != NULL && waitq_has_waiter(&c->sendq)) ||
           (UNLIKELY(c->timed) && tick_is_due(c));
}

/* A random ready case, or -1. */
static inline Py_ssize_t
choose(M *m, Case *const *cases, Py_ssize_t n)
{
    Py_ssize_t chosen = -1;
    uint64_t ready = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (case_ready(cases[i]) && (++ready == 1 || next_random(m) % ready == 0)) {
            chosen = i;
        }
    }
    return chosen;
}

/* What became of a case. */
typedef struct {
    Py_ssize_t index;
    PyObject *value; /* owned; NULL for a receive: closed */
    bool closed;
} Outcome;

/* Do a case that was ready.  False: another thread was faster, look again. */
static inline bool
proceed(Case *k, Outcome *out, G **wake)
{
    Chan *c = k->chan;
    out->closed = false;
    out->value = NULL;
    if (!k->is_send) {
        out->value = chan_take(c, wake);
        out->closed = out->value == NULL;
        return out->value != NULL || c->closed;
    }
    out->closed = c->sealed;
    return c->sealed || chan_give(c, k->value, wake);
}

static PyObject *
pair(Py_ssize_t index, PyObject *value)
{
    PyObject *i = PyLong_FromSsize_t(index), *r = PyTuple_New(2);
    if (i == NULL || r == NULL) {
        Py_XDECREF(i);
        Py_XDECREF(r);
        Py_XDECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(r, 0, i);
    PyTuple_SET_ITEM(r, 1, value);
    return r;
}

static PyObject *
answer(Case *k, Outcome *out)
{
    if (k->is_send) {
        if (out->closed) {
            raise_closed(k->chan, "send on closed channel", out->index);
            return NULL;
        }
        return pair(out->index, Py_NewRef(Py_None));
    }
    if (!k->want_ok) {
        if (out->closed) {
            raise_closed(k->chan, "receive from closed channel", out->index);
            return NULL;
        }
        return pair(out->index, out->value);
    }
    PyObject *v = out->value != NULL ? out->value : Py_NewRef(Py_None);
    PyObject *both = PyTuple_Pack(2, v, out->closed ? Py_False : Py_True);
    Py_DECREF(v);
    return both != NULL ? pair(out->index, both) : NULL;
}

/* ---- passes 2 and 3 ------------------------------------------------------------------------ */

static inline WaitQ *
queue_of(Case *k)
{
    return k->is_send ? &k->chan->sendq : &k->chan->recvq;
}

static void
enqueue_all(G *g, Sudog *sgs, Case *const *cases, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        Case *k = cases[i];
        sgs[i] = (Sudog){.g = g, .chan = k->chan, .index = (int32_t)i, .is_send = k->is_send};
        if (k->chan != NULL) {
            sgs[i].elem = Py_XNewRef(k->value);
            waitq_push(queue_of(k), &sgs[i]);
        }
    }
}

static void
dequeue_all(Sudog *sgs, Case *const *cases, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (cases[i]->chan != NULL) {
            waitq_remove(queue_of(cases[i]), &sgs[i]);
        }
    }
}

static inline bool
any_timed(Case *const *cases, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (cases[i]->chan != NULL && cases[i]->chan->timed) {
            return true;
        }
    }
    return false;
}

/* Park in all queues (locked on entry).  1: *out is set; 0: timeout; -1: an
 * exception; 2: look again, a timer was reset. */
static int
wait_for_one(M *m, Case *const *cases, Py_ssize_t n, int64_t ns, LockOrder *order, Outcome *out)
{
    G *g = m->curg;
    Sudog *sgs = malloc((size_t)(n > 0 ? n : 1) * sizeof(Sudog));
    if (sgs == NULL) {
        order_unlock(order);
        PyErr_NoMemory();
        return -1;
    }
    g_will_wait(g);
    enqueue_all(g, sgs, cases, n);
    g->sg.next = sgs; /* for leak.c; the last one is in truth what was passed */
    g->sg.index = (int32_t)n;
    g->sg.prev = (Sudog *)cases;
    order_unlock(order);
    WaitReason why = n > 0 ? WAIT_SELECT : WAIT_SELECT_NO_CASES;
    Wake how =
        UNLIKELY(any_timed(cases, n)) ? park_for_ticks(m, sgs, n, ns, why) : gopark(m, g, ns, why);
    order_lock(order);
    dequeue_all(sgs, cases, n);
    order_unlock(order);
    int r = how != WAKE_READY ? 0 : g->fired->retry ? 2 : 1;
    if (r == 1) {
        Sudog *sg = g->fired;
        out->index = sg->index;
        out->value = sg->is_send ? NULL : sg->elem;
        out->closed = sg->closed;
        if (!sg->is_send) {
            sg->elem = NULL;
        }
    }
    else if (r == 0 && how != WAKE_TIMEOUT) {
        r = wake_error(g, how, "select", NULL);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_XDECREF(sgs[i].elem); /* values that were not sent */
    }
    free(sgs);
    return r;
}

/* Do a ready case, if there is one (all locked).  Whom that wakes goes to *wake. */
static bool
do_one(M *m, Case *const *cases, Py_ssize_t n, Outcome *out, G **wake)
{
    while ((out->index = choose(m, cases, n)) >= 0) {
        G *one = NULL;
        bool done = proceed(cases[out->index], out, &one);
        if (one != NULL) { /* even if not done: an older waiter got the tick */
            one->schedlink = *wake;
            *wake = one;
        }
        if (done) {
            return true;
        }
    }
    return false;
}

/* Look, and if nothing is ready, wait.  As wait_for_one. */
static int
look_and_wait(M *m, Case *const *cases, Py_ssize_t n, int64_t ns, Outcome *out)
{
    LockOrder order;
    G *wake = NULL;
    if (order_make(&order, cases, n) < 0) {
        return -1;
    }
    order_lock(&order);
    int r = do_one(m, cases, n, out, &wake);
    if (r == 0 && ns != 0 && UNLIKELY(park_needs_check(m))) {
        order_unlock(&order);
        goready_all(wake);
        wake = NULL;
        if (park_check(m, m->curg) < 0) {
            order_free(&order);
            return -1;
        }
        order_lock(&order);
        r = do_one(m, cases, n, out, &wake); /* the check let others run */
    }
    if (r == 0 && ns != 0 && wake == NULL) {
        r = wait_for_one(m, cases, n, ns, &order, out);
    }
    else {
        order_unlock(&order);
        r = r == 0 && ns != 0 ? 2 : r;
    }
    goready_all(wake);
    order_free(&order);
    return r;
}

static PyObject *
select_cases(M *m, Case *const *cases, Py_ssize_t n, int64_t ns)
{
    Outcome out;
    int64_t began = ns > 0 && any_timed(cases, n) ? clock_now() : 0;
    int64_t left = ns;
    int r;
    while (UNLIKELY((r = look_and_wait(m, cases, n, left, &out)) == 2)) {
        left = ns > 0 ? time_left(ns, began) : ns;
    }
    if (r < 0) {
        return NULL;
    }
    return r == 1 ? answer(cases[out.index], &out) : pair(-1, Py_NewRef(Py_None));
}

/* ---- select() and Select --------------------------------------------------------------------- */

static int
check_cases(PyObject *const *args, Py_ssize_t n, const char *who)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (Py_TYPE(args[i]) != case_type) {
            PyErr_Format(PyExc_TypeError,
                         "%s: case %zd must be made by recv(), recv_ok() or send(), not %.100s",
                         who, i, Py_TYPE(args[i])->tp_name);
            return -1;
        }
    }
    return 0;
}

/* timeout= is the only keyword. */
static int
keyword_timeout(const char *who, PyObject *const *kwargs, PyObject *kwnames, int64_t *ns)
{
    *ns = -1;
    if (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(kwnames); i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        if (PyUnicode_CompareWithASCIIString(name, "timeout") != 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", who, name);
            return -1;
        }
    }
    return timeout_arg(kwargs[0], ns);
}

static PyObject *
select_(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t ns;
    M *m = getm();
    (void)mod;
    if (m == NULL || keyword_timeout("select", args + nargs, kwnames, &ns) < 0 ||
        check_cases(args, nargs, "select") < 0) {
        return NULL;
    }
    return select_cases(m, (Case *const *)args, nargs, ns);
}

/* Whether o is the function select. */
bool
is_select(PyObject *o)
{
    return PyCFunction_Check(o) &&
           PyCFunction_GET_FUNCTION(o) == (PyCFunction)(void (*)(void))select_;
}

typedef struct {
    PyObject_HEAD
    PyObject *cases; /* owned tuple of Case */
    vectorcallfunc call;
} Select;

static PyObject *
Select_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyObject *cases = ((Select *)self)->cases;
    Py_ssize_t nargs = PyVectorcall_NARGS(nargsf);
    int64_t ns;
    M *m = getm();
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "Select takes only a timeout, got %zd arguments", nargs);
        return NULL;
    }
    if (m == NULL || (nargs == 1 ? timeout_arg(args[0], &ns)
                                 : keyword_timeout("Select", args + nargs, kwnames, &ns)) < 0) {
        return NULL;
    }
    return select_cases(m, (Case *const *)&PyTuple_GET_ITEM(cases, 0), PyTuple_GET_SIZE(cases), ns);
}

static PyObject *
Select_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError,
                        "Select() takes no keyword arguments: give timeout= when calling it");
        return NULL;
    }
    if (check_cases(&PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args), "Select") < 0) {
        return NULL;
    }
    Select *s = (Select *)type->tp_alloc(type, 0);
    if (s != NULL) {
        s->cases = Py_NewRef(args);
        s->call = Select_call;
    }
    return (PyObject *)s;
}

static int
Select_traverse(Select *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
    Py_VISIT(s->cases);
    return 0;
}

static void
Select_dealloc(Select *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    Py_TRASHCAN_BEGIN(s, Select_dealloc) Py_CLEAR(s->cases);
    type->tp_free(s);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyObject *
Select_repr(Select *s)
{
    return PyUnicode_FromFormat("Select%R", s->cases);
}

static PyMemberDef select_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Select, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot select_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Select(*cases)\n--\n\n"
                       "A select prepared once, for hot loops: call it, with timeout= if\n"
                       "wanted, and it does what select(*cases, timeout=...) does.")},
    {Py_tp_new, Select_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, Select_traverse},
    {Py_tp_dealloc, Select_dealloc},
    {Py_tp_repr, Select_repr},
    {Py_tp_members, select_members},
    {0, NULL},
};

static PyType_Spec select_spec = {
    .name = "goroutines.Select",
    .basicsize = sizeof(Select),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = select_slots,
};

static PyType_Slot case_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("A case of a select, made by recv(), recv_ok() or send().")},
    {Py_tp_traverse, Case_traverse},
    {Py_tp_dealloc, Case_dealloc},
    {Py_tp_repr, Case_repr},
    {0, NULL},
};

static PyType_Spec case_spec = {
    .name = "goroutines.Case",
    .basicsize = sizeof(Case),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = case_slots,
};

static PyMethodDef functions[] = {
    {"select", (PyCFunction)(void (*)(void))select_, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR(
         "select(*cases, timeout=None)\n--\n\n"
         "Wait until one of the cases can proceed, do it, and return (index, value).\n\n"
         "Cases are made by recv(ch), recv_ok(ch) and send(ch, value); a case of None is\n"
         "never ready.  Among several ready ones the choice is uniformly random.  timeout\n"
         "is in seconds; when it runs out, or at once with 0 (Go's `default`), the answer\n"
         "is (-1, None).  Without cases and timeout it waits for ever, as Go's `select {}`.\n\n"
         "Raises ChannelClosed, with .chan and .index, for a recv of a closed and drained\n"
         "channel or a send to a closed one; TypeError for what is no case.")},
    {"recv", make_recv, METH_O,
     PyDoc_STR("recv(ch, /)\n--\n\nThe select case `v := <-ch`.  Its value: what was received.")},
    {"recv_ok", make_recv_ok, METH_O,
     PyDoc_STR("recv_ok(ch, /)\n--\n\n"
               "The select case `v, ok := <-ch`.  Its value: (v, True), or (None, False) once\n"
               "the channel is closed and drained.")},
    {"send", (PyCFunction)(void (*)(void))make_send, METH_FASTCALL,
     PyDoc_STR("send(ch, value, /)\n--\n\nThe select case `ch <- value`.  Its value: None.")},
    {NULL, NULL, 0, NULL},
};

int
select_add_types(PyObject *mod)
{
    case_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &case_spec, NULL);
    PyObject *select_type = PyType_FromModuleAndSpec(mod, &select_spec, NULL);
    if (case_type == NULL || select_type == NULL ||
        PyModule_AddObjectRef(mod, "Case", (PyObject *)case_type) < 0 ||
        PyModule_AddObjectRef(mod, "Select", select_type) < 0) {
        return -1;
    }
    Py_DECREF(select_type);
    return PyModule_AddFunctions(mod, functions);
}
