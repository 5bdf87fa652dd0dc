/* SPDX-License-Identifier: MIT
 *
 * chan.c: channels.
 *
 * Invariants, with c->mu held (select's waiters in both queues apart):
 *   - at least one of recvq and sendq holds no waiter;
 *   - len > 0 implies that nobody waits in recvq;
 *   - len < cap implies that nobody waits in sendq;
 *   - a closed channel has no waiters at all.
 * A queue may hold Sudogs of goroutines that were woken elsewhere (a select, a
 * timeout); who finds one drops it (waitq_claim).
 *
 * A value is handed over under the lock, straight to the waiter's Sudog; a
 * waiter that timed out takes its Sudog back under the same lock.  So a value
 * is received once or stays with its sender, whatever happens at the same time.
 */
#include "runtime.h"

PyTypeObject *chan_type;

/* ---- errors ----------------------------------------------------------------------- */

/* For a sealed channel: raise ChannelClosed(what) with .chan and .index (-1: None),
 * or TypeError if it is a timer's or a context's. */
void
raise_closed(Chan *c, const char *what, Py_ssize_t index)
{
    if (UNLIKELY(!c->closed)) {
        PyErr_Format(PyExc_TypeError, "%R can only be received from: it is %s", c,
                     c->timed ? "a timer's" : "a context's");
        return;
    }
    PyObject *msg = PyUnicode_FromFormat("%s: %R", what, c);
    PyObject *exc = NULL;
    if (msg != NULL) {
        exc = index < 0 ? PyObject_CallFunction(sched.channel_closed, "OO", msg, c)
                        : PyObject_CallFunction(sched.channel_closed, "OOn", msg, c, index);
    }
    if (exc != NULL) {
        PyErr_SetObject(sched.channel_closed, exc);
    }
    Py_XDECREF(exc);
    Py_XDECREF(msg);
}

#define SEND_CLOSED "send on closed channel"
#define RECV_CLOSED "receive from closed channel"
#define CLOSE_CLOSED "close of closed channel"

/* ---- the buffer --------------------------------------------------------------------- */

static inline void
buf_push(Chan *c, PyObject *v)
{
    Py_ssize_t i = c->head + c->len;
    c->buf[i < c->cap ? i : i - c->cap] = v;
    c->len++;
}

static inline PyObject *
buf_pop(Chan *c)
{
    PyObject *v = c->buf[c->head];
    c->buf[c->head] = NULL;
    c->head = c->head + 1 < c->cap ? c->head + 1 : 0;
    c->len--;
    return v;
}

/* ---- without waiting; c->mu held -------------------------------------------------------
 * The goroutine to wake is left to the caller, who unlocks first. */

/* Take a value if there is one: a new reference, else NULL. */
PyObject *
chan_take(Chan *c, G **wake)
{
    Sudog *sg;
    if (c->len > 0) {
        PyObject *v = buf_pop(c);
        if (c->sendq.first != NULL && (sg = waitq_claim(&c->sendq)) != NULL) {
            buf_push(c, sg->elem);
            sg->elem = NULL;
            *wake = sg->g;
        }
        return v;
    }
    if (c->sendq.first != NULL && (sg = waitq_claim(&c->sendq)) != NULL) {
        PyObject *v = sg->elem;
        sg->elem = NULL;
        *wake = sg->g;
        return v;
    }
    return UNLIKELY(c->timed) ? tick_take(c, wake) : NULL;
}

/* Hand v over or buffer it.  1 if done (a reference of v is taken), else 0. */
int
chan_give(Chan *c, PyObject *v, G **wake)
{
    Sudog *sg;
    if (c->recvq.first != NULL && (sg = waitq_claim(&c->recvq)) != NULL) {
        sg->elem = Py_NewRef(v);
        *wake = sg->g;
        return 1;
    }
    if (c->len < c->cap) {
        buf_push(c, Py_NewRef(v));
        return 1;
    }
    return 0;
}

/* ---- send ------------------------------------------------------------------------------- */

static NOINLINE int
chan_send_wait(M *m, Chan *c, PyObject *v, int64_t ns)
{
    G *g = m->curg;
    Sudog *sg = &g->sg;
    /* c->mu is held, park_check was done */
    g_will_wait(g);
    sg->elem = Py_NewRef(v);
    sg->chan = c;
    sg->closed = false;
    waitq_push(&c->sendq, sg);
    UNLOCK(&c->mu);
    Py_INCREF(c);
    Wake how = gopark(m, g, ns, WAIT_CHAN_SEND);
    int r = 0;
    if (how != WAKE_READY) {
        LOCK(&c->mu);
        waitq_remove(&c->sendq, sg);
        UNLOCK(&c->mu);
        r = wake_error(g, how, "send", (PyObject *)c);
    }
    else if (sg->closed) {
        raise_closed(c, SEND_CLOSED, -1);
        r = -1;
    }
    Py_CLEAR(sg->elem);
    Py_DECREF(c);
    return r;
}

/* A finalizer that would have to wait while the collector runs, whose lists'
 * heads are in this very stack, leaves the sending to a goroutine. */
static int
chan_send_by_another(M *m, Chan *c, PyObject *v)
{
    PyObject *method = PyObject_GetAttrString((PyObject *)c, "send");
    G *g = method != NULL ? g_new(m, method, &v, 1, NULL) : NULL;
    Py_XDECREF(method);
    if (g == NULL) {
        return -1;
    }
    g_start(m, g);
    Py_DECREF(g);
    return 0;
}

static int
chan_send(M *m, Chan *c, PyObject *v, int64_t ns)
{
    G *wake = NULL;
    LOCK(&c->mu);
    if (UNLIKELY(c->sealed)) {
        UNLOCK(&c->mu);
        raise_closed(c, SEND_CLOSED, -1);
        return -1;
    }
    if (LIKELY(chan_give(c, v, &wake))) {
        UNLOCK(&c->mu);
        if (wake != NULL) {
            goready(wake);
        }
        TORTURE(m);
        return 0;
    }
    if (ns == 0) {
        UNLOCK(&c->mu);
        PyErr_Format(PyExc_TimeoutError, "send timed out: %R", c);
        return -1;
    }
    if (UNLIKELY(park_needs_check(m))) {
        UNLOCK(&c->mu);
        if (m->in_gc) {
            return chan_send_by_another(m, c, v);
        }
        if (park_check(m, m->curg) < 0) {
            return -1;
        }
        LOCK(&c->mu);
        if (c->closed || c->len < c->cap || c->recvq.first != NULL) {
            UNLOCK(&c->mu);
            return chan_send(m, c, v, ns); /* the check let others run */
        }
    }
    return chan_send_wait(m, c, v, ns);
}

/* ---- receive ------------------------------------------------------------------------------ */

static int chan_recv(M *m, Chan *c, PyObject **v, int64_t ns);

static NOINLINE int
chan_recv_wait(M *m, Chan *c, PyObject **v, int64_t ns)
{
    G *g = m->curg;
    Sudog *sg = &g->sg;
    g_will_wait(g);
    sg->elem = NULL;
    sg->chan = c;
    waitq_push(&c->recvq, sg);
    UNLOCK(&c->mu);
    Py_INCREF(c);
    Wake how = gopark(m, g, ns, WAIT_CHAN_RECEIVE);
    int r = 0;
    if (how != WAKE_READY) {
        LOCK(&c->mu);
        waitq_remove(&c->recvq, sg);
        UNLOCK(&c->mu);
        r = wake_error(g, how, "recv", (PyObject *)c);
    }
    *v = sg->elem; /* NULL: woken by close */
    sg->elem = NULL;
    Py_DECREF(c);
    return r;
}

/* The same for a timer's channel.  A function of its own: the frame above is
 * part of what each waiting goroutine keeps. */
static NOINLINE int
tick_recv_wait(M *m, Chan *c, PyObject **v, int64_t ns)
{
    G *g = m->curg;
    Sudog *sg = &g->sg;
    int64_t began = clock_now();
    g_will_wait(g);
    sg->elem = NULL;
    sg->chan = c;
    sg->is_send = sg->retry = false;
    waitq_push(&c->recvq, sg);
    UNLOCK(&c->mu);
    Py_INCREF(c);
    Wake how = park_for_ticks(m, sg, 1, ns, WAIT_CHAN_RECEIVE);
    int r = 0;
    if (how != WAKE_READY) {
        LOCK(&c->mu);
        waitq_remove(&c->recvq, sg);
        UNLOCK(&c->mu);
        r = wake_error(g, how, "recv", (PyObject *)c);
    }
    else if (sg->retry) { /* it was reset: its tick comes at another time */
        r = chan_recv(m, c, v, time_left(ns, began));
    }
    else {
        *v = sg->elem;
        sg->elem = NULL;
    }
    Py_DECREF(c);
    return r;
}

/* 0 with *v a new reference, or NULL once closed and drained; -1: exception. */
static int
chan_recv(M *m, Chan *c, PyObject **v, int64_t ns)
{
    G *wake = NULL;
    LOCK(&c->mu);
    *v = chan_take(c, &wake);
    if (LIKELY(*v != NULL) || c->closed) {
        UNLOCK(&c->mu);
        if (wake != NULL) {
            goready(wake);
        }
        return 0;
    }
    if (UNLIKELY(wake != NULL)) { /* a tick that was due went to who waits already */
        UNLOCK(&c->mu);
        goready(wake);
        LOCK(&c->mu);
    }
    if (ns == 0) {
        UNLOCK(&c->mu);
        PyErr_Format(PyExc_TimeoutError, "recv timed out: %R", c);
        return -1;
    }
    if (UNLIKELY(park_needs_check(m))) {
        UNLOCK(&c->mu);
        if (park_check(m, m->curg) < 0) {
            return -1;
        }
        LOCK(&c->mu);
        if (c->closed || c->len > 0 || c->sendq.first != NULL) {
            UNLOCK(&c->mu);
            return chan_recv(m, c, v, ns);
        }
    }
    return UNLIKELY(c->timed) ? tick_recv_wait(m, c, v, ns) : chan_recv_wait(m, c, v, ns);
}

/* ---- close ---------------------------------------------------------------------------------- */

/* `owner`: whether who calls may close a sealed channel. */
static int
chan_close(Chan *c, bool owner)
{
    LOCK(&c->mu);
    if (c->closed || (c->sealed && !owner)) {
        UNLOCK(&c->mu);
        raise_closed(c, CLOSE_CLOSED, -1);
        return -1;
    }
    c->closed = c->sealed = true;
    G *wake = NULL, **tail = &wake;
    Sudog *sg;
    while ((sg = waitq_claim(&c->recvq)) != NULL || (sg = waitq_claim(&c->sendq)) != NULL) {
        sg->closed = true;
        sg->g->schedlink = NULL;
        *tail = sg->g;
        tail = &sg->g->schedlink;
    }
    UNLOCK(&c->mu);
    goready_all(wake);
    return 0;
}

/* ---- the Python type: Chan -------------------------------------------------------------------- */

static PyObject *
Chan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"cap", NULL};
    PyObject *arg = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Chan", names, &arg)) {
        return NULL;
    }
    Py_ssize_t cap = 0;
    if (arg != NULL) {
        if (!PyLong_Check(arg)) {
            PyErr_Format(PyExc_TypeError, "Chan: cap must be an int, not %.100s",
                         Py_TYPE(arg)->tp_name);
            return NULL;
        }
        cap = PyLong_AsSsize_t(arg);
        if (cap < 0) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "Chan: cap must not be negative or beyond memory: %R",
                         arg);
            return NULL;
        }
    }
    Chan *c = (Chan *)type->tp_alloc(type, 0);
    if (c == NULL) {
        return NULL;
    }
    if (cap > 0) {
        c->buf = (size_t)cap > PY_SSIZE_T_MAX / sizeof(PyObject *)
                     ? NULL
                     : calloc((size_t)cap, sizeof(PyObject *));
        if (c->buf == NULL) {
            Py_DECREF(c);
            return PyErr_NoMemory();
        }
        c->cap = cap;
    }
    return (PyObject *)c;
}

static int
Chan_traverse(Chan *c, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(c));
    for (Py_ssize_t i = 0; i < c->len; i++) {
        Py_ssize_t at = c->head + i;
        Py_VISIT(c->buf[at < c->cap ? at : at - c->cap]);
    }
    return 0;
}

static int
Chan_clear(Chan *c)
{
    while (c->len > 0) {
        PyObject *v = buf_pop(c);
        Py_DECREF(v);
    }
    return 0;
}

static void
Chan_dealloc(Chan *c)
{
    PyTypeObject *type = Py_TYPE(c);
    PyObject_GC_UnTrack(c);
    Py_TRASHCAN_BEGIN(c, Chan_dealloc) if (c->weakrefs != NULL)
    {
        PyObject_ClearWeakRefs((PyObject *)c);
    }
    Chan_clear(c);
    free(c->buf);
    type->tp_free(c);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyObject *
Chan_repr(Chan *c)
{
    if (c->sealed && !c->closed) {
        return PyUnicode_FromFormat("<Chan of a %s at %p>", c->timed ? "timer" : "context", c);
    }
    return PyUnicode_FromFormat("<Chan cap=%zd len=%zd%s at %p>", c->cap, c->len,
                                c->closed ? " closed" : "", c);
}

/* (value, timeout=None) of send; (timeout=None) of the receives. */
static int
parse_timeout(const char *who, PyObject *const *args, Py_ssize_t nargs, Py_ssize_t npos,
              PyObject *kwnames, PyObject **value, int64_t *ns)
{
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    PyObject *timeout = nargs == npos + 1 ? args[npos] : NULL;
    Py_ssize_t have = nargs < npos ? nargs : npos;
    if (have > 0) {
        *value = args[0];
    }
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        bool is_timeout = PyUnicode_CompareWithASCIIString(name, "timeout") == 0;
        if (is_timeout && timeout != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got two values for timeout", who);
            return -1;
        }
        if (is_timeout) {
            timeout = args[nargs + i];
        }
        else if (have < npos && PyUnicode_CompareWithASCIIString(name, "value") == 0) {
            *value = args[nargs + i];
            have++;
        }
        else {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", who, name);
            return -1;
        }
    }
    if (have < npos || nargs > npos + 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes %s(timeout=None), got %zd positional arguments",
                     who, npos ? "(value, timeout=None), not " : "", nargs);
        return -1;
    }
    return timeout_arg(timeout, ns);
}

static PyObject *
Chan_send(Chan *c, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns = -1;
    PyObject *v = NULL;
    if (LIKELY(nargs == 1 && kwnames == NULL)) {
        v = args[0];
    }
    else if (parse_timeout("send", args, nargs, 1, kwnames, &v, &ns) < 0) {
        return NULL;
    }
    if (UNLIKELY(m == NULL) || chan_send(m, c, v, ns) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
Chan_recv(Chan *c, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns = -1;
    PyObject *v;
    if (UNLIKELY(nargs != 0 || kwnames != NULL) &&
        parse_timeout("recv", args, nargs, 0, kwnames, NULL, &ns) < 0) {
        return NULL;
    }
    if (UNLIKELY(m == NULL) || chan_recv(m, c, &v, ns) < 0) {
        return NULL;
    }
    if (UNLIKELY(v == NULL)) {
        raise_closed(c, RECV_CLOSED, -1);
    }
    return v;
}

static PyObject *
value_and_ok(PyObject *v)
{
    PyObject *r = PyTuple_Pack(2, v != NULL ? v : Py_None, v != NULL ? Py_True : Py_False);
    Py_XDECREF(v);
    return r;
}

static PyObject *
Chan_recv_ok(Chan *c, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns = -1;
    PyObject *v;
    if (UNLIKELY(nargs != 0 || kwnames != NULL) &&
        parse_timeout("recv_ok", args, nargs, 0, kwnames, NULL, &ns) < 0) {
        return NULL;
    }
    if (m == NULL || chan_recv(m, c, &v, ns) < 0) {
        return NULL;
    }
    return value_and_ok(v);
}

static PyObject *
Chan_try_send(Chan *c, PyObject *v)
{
    G *wake = NULL;
    LOCK(&c->mu);
    bool closed = c->sealed;
    int done = closed ? 0 : chan_give(c, v, &wake);
    UNLOCK(&c->mu);
    if (closed) {
        raise_closed(c, SEND_CLOSED, -1);
        return NULL;
    }
    if (wake != NULL) {
        goready(wake);
    }
    return PyBool_FromLong(done);
}

static PyObject *
Chan_try_recv(Chan *c, PyObject *unused)
{
    G *wake = NULL;
    (void)unused;
    LOCK(&c->mu);
    PyObject *v = chan_take(c, &wake);
    UNLOCK(&c->mu);
    if (wake != NULL) {
        goready(wake);
    }
    return value_and_ok(v);
}

static PyObject *
Chan_close(Chan *c, PyObject *unused)
{
    (void)unused;
    if (chan_close(c, false) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- the channel of a context: closed by it alone ---- */

static PyObject *
rt_done_chan(PyObject *mod, PyObject *unused)
{
    Chan *c = (Chan *)chan_type->tp_alloc(chan_type, 0);
    (void)mod;
    (void)unused;
    if (c != NULL) {
        c->sealed = true;
    }
    return (PyObject *)c;
}

static PyObject *
rt_close_done(PyObject *mod, PyObject *chan)
{
    (void)mod;
    INVARIANT(Py_TYPE(chan) == chan_type);
    if (chan_close((Chan *)chan, true) < 0) {
        PyErr_Clear(); /* another thread, which cancels it too, was first */
    }
    Py_RETURN_NONE;
}

static PyMethodDef done_functions[] = {
    METHOD("_done_chan", rt_done_chan, METH_NOARGS, PyDoc_STR("A channel only to receive from.")),
    METHOD("_close_done", rt_close_done, METH_O,
           PyDoc_STR("Close one of _done_chan(), if it is not.")),
    {NULL, NULL, 0, NULL},
};

static PyObject *
Chan_next(Chan *c)
{
    M *m = getm();
    PyObject *v;
    if (m == NULL || chan_recv(m, c, &v, -1) < 0) {
        return NULL;
    }
    return v; /* NULL without an exception: StopIteration */
}

/* Each `for` gets its own iterator, so that Chan itself is not one: next(ch)
 * on a channel would read as a peek. */
typedef struct {
    PyObject_HEAD
    Chan *chan;
} ChanIter;

static PyTypeObject *iter_type;

static inline void
count_iterator(Chan *c, int32_t n)
{
#ifdef Py_GIL_DISABLED
    atomic_fetch_add_explicit(&c->iters, n, memory_order_relaxed);
#else
    int32_t was = atomic_load_explicit(&c->iters, memory_order_relaxed);
    atomic_store_explicit(&c->iters, was + n, memory_order_relaxed);
#endif
}

static PyObject *
Chan_iter(Chan *c)
{
    ChanIter *it = (ChanIter *)iter_type->tp_alloc(iter_type, 0);
    if (it != NULL) {
        it->chan = (Chan *)Py_NewRef((PyObject *)c);
        count_iterator(c, 1);
    }
    return (PyObject *)it;
}

/* The channel of an iterator; NULL: this is none. */
Chan *
chan_of_iterator(PyObject *o)
{
    return Py_TYPE(o) == iter_type ? ((ChanIter *)o)->chan : NULL;
}

static PyObject *
ChanIter_next(ChanIter *it)
{
    return Chan_next(it->chan);
}

static int
ChanIter_traverse(ChanIter *it, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(it));
    Py_VISIT(it->chan);
    return 0;
}

static void
ChanIter_dealloc(ChanIter *it)
{
    PyTypeObject *type = Py_TYPE(it);
    PyObject_GC_UnTrack(it);
    Py_TRASHCAN_BEGIN(it, ChanIter_dealloc) count_iterator(it->chan, -1);
    Py_CLEAR(it->chan);
    type->tp_free(it);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static PyType_Slot iter_slots[] = {
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, ChanIter_next},
    {Py_tp_traverse, ChanIter_traverse},
    {Py_tp_dealloc, ChanIter_dealloc},
    {0, NULL},
};

static PyType_Spec iter_spec = {
    .name = "goroutines._runtime.ChanIterator",
    .basicsize = sizeof(ChanIter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iter_slots,
};

static PyObject *
Chan_get_closed(Chan *c, void *unused)
{
    (void)unused;
    return PyBool_FromLong(c->closed);
}

static Py_ssize_t
Chan_len(Chan *c)
{
    return c->len;
}

static int
Chan_bool(Chan *c)
{
    (void)c;
    return 1;
}


static PyMethodDef chan_methods[] = {
    METHOD("send", Chan_send, FASTKW,
           PyDoc_STR("send($self, value, timeout=None)\n--\n\n"
                     "Send value; wait until a receiver takes it or the buffer has room.\n\n"
                     "timeout is in seconds; None waits for ever, 0 never waits.\n"
                     "Raises ChannelClosed if the channel is closed, now or while waiting (the\n"
                     "value was not sent then), TimeoutError when the time runs out.")),
    METHOD("recv", Chan_recv, FASTKW,
           PyDoc_STR("recv($self, timeout=None)\n--\n\n"
                     "Receive the next value; wait until there is one.\n\n"
                     "timeout is in seconds; None waits for ever, 0 never waits.\n"
                     "Raises ChannelClosed once the channel is closed and drained, TimeoutError\n"
                     "when the time runs out.")),
    METHOD("recv_ok", Chan_recv_ok, FASTKW,
           PyDoc_STR("recv_ok($self, timeout=None)\n--\n\n"
                     "Receive as Go's `v, ok := <-ch`: (value, True), or (None, False) once the\n"
                     "channel is closed and drained.\n\n"
                     "Raises TimeoutError when the time (seconds) runs out.")),
    METHOD("try_send", Chan_try_send, METH_O,
           PyDoc_STR("try_send($self, value, /)\n--\n\n"
                     "Send value if that needs no waiting; return whether it was sent.\n\n"
                     "Raises ChannelClosed if the channel is closed.")),
    METHOD("try_recv", Chan_try_recv, METH_NOARGS,
           PyDoc_STR("try_recv($self)\n--\n\n"
                     "Return (value, True) if a value is there, else (None, False).  Never waits\n"
                     "and never raises; `closed` tells why nothing was there.")),
    METHOD("close", Chan_close, METH_NOARGS,
           PyDoc_STR("close($self)\n--\n\n"
                     "Close the channel: buffered values can still be received, waiting senders\n"
                     "and receivers are woken.  Raises ChannelClosed on a second close.")),
    METHOD("__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS,
           PyDoc_STR("Chan[T]: a channel of T, for type checkers.")),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef chan_members[] = {
    {"cap", T_PYSSIZET, offsetof(Chan, cap), READONLY,
     PyDoc_STR("How many values the buffer holds; 0: unbuffered.")},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Chan, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef chan_getset[] = {
    {"closed", (getter)Chan_get_closed, NULL,
     PyDoc_STR("True from close() on, values buffered or not."), NULL},
    {"receiver", (getter)chan_get_receiver, NULL,
     PyDoc_STR("The receiving end: the same channel with recv, recv_ok, try_recv and iteration."),
     NULL},
    {"sender", (getter)chan_get_sender, NULL,
     PyDoc_STR("The sending end: the same channel with send, try_send and close."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot chan_slots[] = {
    {Py_tp_doc,
     (void *)PyDoc_STR("Chan(cap=0)\n--\n\n"
                       "A channel, as Go's `make(chan T, cap)`.\n\n"
                       "cap is the number of values that can be sent before a receiver\n"
                       "is needed; 0 makes each send wait for its receiver.  Values and\n"
                       "waiters are served first come, first served.  Channels work\n"
                       "between goroutines of any thread and plain threads.\n\n"
                       "Raises ValueError for a negative cap, TypeError for one that is\n"
                       "not an int.")},
    {Py_tp_new, Chan_new},
    {Py_tp_traverse, Chan_traverse},
    {Py_tp_clear, Chan_clear},
    {Py_tp_dealloc, Chan_dealloc},
    {Py_tp_repr, Chan_repr},
    {Py_tp_iter, Chan_iter},
    {Py_tp_methods, chan_methods},
    {Py_tp_members, chan_members},
    {Py_tp_getset, chan_getset},
    {Py_sq_length, Chan_len},
    {Py_nb_bool, Chan_bool},
    {0, NULL},
};

static PyType_Spec chan_spec = {
    .name = "goroutines.Chan",
    .basicsize = sizeof(Chan),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = chan_slots,
};

int
chan_add_types(PyObject *mod)
{
    iter_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &iter_spec, NULL);
    chan_type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &chan_spec, NULL);
    if (iter_type == NULL || chan_type == NULL || PyModule_AddFunctions(mod, done_functions) < 0) {
        return -1;
    }
    return PyModule_AddObjectRef(mod, "Chan", (PyObject *)chan_type);
}
