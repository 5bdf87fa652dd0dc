/* SPDX-License-Identifier: MIT
 *
 * timer.c: Timer and Ticker: channels that tick, functions that run later.
 *
 * A timer's channel (c->timed) holds no values and is in no timer heap.  It
 * knows when its next tick is, and whoever receives looks at the clock.  A
 * goroutine that must wait for the tick parks with an Alarm, a timer of its
 * own, which hands the tick to the first waiter of the channel.  So a timer
 * that nobody waits for costs nothing and needs no stopping, stop and reset
 * touch no heap, and nothing stale can ever be received (Go's rules since
 * 1.23, and nearly its mechanism).
 *
 * Invariants, with c->mu held:
 *   - c->when is the time of the first tick that nobody has got; 0: none;
 *   - every waiter in c->recvq has an Alarm for c->when or earlier.  A stop or
 *     reset therefore wakes them all to look again (Sudog.retry).
 *
 * A Timer with a function is in the heap of the thread that armed it, which
 * holds a reference to it.  When that thread ends, the main thread gets it.
 * Lock order: Timer.mu, then Timers.mu; c->mu is taken alone.
 */
#include "runtime.h"

/* ---- ticks -------------------------------------------------------------------------- */

bool
tick_is_due(Chan *c)
{
    return c->when != 0 && c->when <= clock_now();
}

static inline double
as_seconds(int64_t ns)
{
    return (double)ns * 1e-9;
}

/* The tick that is due, a float, or NULL; the next is set up.  Ticks that were
 * missed meanwhile are dropped. */
static PyObject *
next_tick(Chan *c)
{
    int64_t now = clock_now();
    if (c->when == 0 || c->when > now) {
        return NULL;
    }
    PyObject *v = PyFloat_FromDouble(as_seconds(c->when));
    if (v == NULL) {
        PyErr_Clear(); /* it stays due */
        return NULL;
    }
    c->when = c->period == 0 ? 0 : c->when + c->period * (1 + (now - c->when) / c->period);
    return v;
}

/* Hand a tick that is due to the first waiter, which goes to *wake. */
static bool
tick_deliver(Chan *c, G **wake)
{
    if (!tick_is_due(c) || !waitq_has_waiter(&c->recvq)) {
        return false;
    }
    PyObject *v = next_tick(c);
    Sudog *sg = v != NULL ? waitq_claim(&c->recvq) : NULL;
    if (sg == NULL) {
        Py_XDECREF(v); /* a free-threaded build: woken elsewhere just now */
        return false;
    }
    sg->elem = v;
    *wake = sg->g;
    return true;
}

/* chan_take for a timed channel; c->mu is held.  Who waits already goes first. */
PyObject *
tick_take(Chan *c, G **wake)
{
    return tick_deliver(c, wake) ? NULL : next_tick(c);
}

/* ---- waiting for ticks ----------------------------------------------------------------- */

/* The timer of a goroutine that waits for timed channels; freed by it. */
typedef struct {
    G *g;
    Sudog *sgs;
    Py_ssize_t n;
    int64_t deadline; /* of the wait itself */
} Alarm;

static void alarm_set(M *m, Alarm *a);

/* Give due ticks to those who wait first; if our goroutine got none, go on. */
static void
alarm_fire(M *m, void *arg)
{
    Alarm *a = arg;
    G *g = a->g;
    g->timer = NULL;
    for (Py_ssize_t i = 0; i < a->n; i++) {
        Chan *c = a->sgs[i].chan;
        if (c == NULL || a->sgs[i].is_send || !c->timed) {
            continue;
        }
        G *wake = NULL;
        LOCK(&c->mu);
        tick_deliver(c, &wake);
        UNLOCK(&c->mu);
        if (wake != NULL) {
            goready(wake);
        }
    }
    if (atomic_load(&g->wake) != WAKE_NOT_YET) {
        return;
    }
    if (a->deadline <= clock_now()) {
        if (g_claim(g, WAKE_TIMEOUT)) {
            goready(g);
        }
        return;
    }
    alarm_set(m, a);
}

static void
alarm_set(M *m, Alarm *a)
{
    int64_t when = a->deadline;
    for (Py_ssize_t i = 0; i < a->n; i++) {
        Chan *c = a->sgs[i].chan;
        if (c != NULL && !a->sgs[i].is_send && c->timed) {
            LOCK(&c->mu);
            if (c->when != 0 && c->when < when) {
                when = c->when;
            }
            UNLOCK(&c->mu);
        }
    }
    if (when != FOREVER) {
        int64_t ns = when - clock_now();
        a->g->timer = timer_start(m, ns > 0 ? ns : 0, alarm_fire, a);
    }
}

/* gopark for a goroutine whose Sudogs, of which one at least is in a timed
 * channel, are in place and stay in memory that does not move. */
Wake
park_for_ticks(M *m, Sudog *sgs, Py_ssize_t n, int64_t ns, WaitReason why)
{
    G *g = m->curg;
    Alarm *a = malloc(sizeof(Alarm));
    if (a == NULL) {
        throw_("out of memory for an alarm");
    }
    int64_t now = clock_now();
    int64_t deadline = ns < 0 || ns > FOREVER - now ? FOREVER : now + ns;
    *a = (Alarm){g, sgs, n, deadline};
    alarm_set(m, a);
    Wake how = gopark(m, g, -1, why); /* stops the timer */
    free(a);
    return how;
}

/* ---- stop and reset of a channel ---------------------------------------------------------- */

static void
ticks_init(Chan *c, int64_t ns, int64_t period)
{
    int64_t now = clock_now();
    c->timed = c->sealed = true;
    c->when = ns > FOREVER - now ? FOREVER : now + ns;
    c->period = period;
}

/* Stop (ns < 0), or tick in ns nanoseconds.  Whether a tick was still to come. */
static bool
ticks_set(Chan *c, int64_t ns, int64_t period)
{
    G *wake = NULL;
    LOCK(&c->mu);
    bool armed = c->when != 0;
    if (ns < 0) {
        c->when = 0;
    }
    else {
        ticks_init(c, ns, period);
    }
    for (Sudog *sg = c->recvq.first; sg != NULL; sg = sg->next) {
        sg->retry = true; /* of those woken elsewhere nobody reads it */
    }
    waitq_wake_all(&c->recvq, &wake);
    UNLOCK(&c->mu);
    goready_all(wake);
    return armed;
}

/* ---- the Python type: Timer --------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *chan; /* owned; NULL for a Timer with a function */
    PyObject *fn;   /* owned; NULL for a Timer with a channel */
    PyObject *weakrefs;

    Lock mu;     /* guards m, t, id */
    M *m;        /* in whose heap it is armed */
    Timer *t;    /* NULL: not armed */
    uint64_t id; /* t is ours only while it has this id */

    /* Where the function's goroutine comes from; owned. */
    PyObject *context, *birth_code;
    int birth_lasti;
    int64_t parent_id;
    Run *run; /* counted */
} TimerObject;

static PyTypeObject *timer_type, *ticker_type;

/* The function's time has come: its goroutine starts, unless run() is over. */
static void
func_fire(M *m, void *arg)
{
    TimerObject *t = arg;
    PyObject *raised = take_raised(); /* of who looks for work */
    LOCK(&t->mu);
    if (t->m == m && t->t != NULL && t->t->id != t->id) {
        t->t = NULL; /* unless it was set again just now */
    }
    UNLOCK(&t->mu);
    if (t->run == NULL || t->run->main != NULL) {
        G *g = g_new(m, t->fn, NULL, 0, NULL);
        if (g == NULL) {
            PyErr_WriteUnraisable(t->fn);
        }
        else {
            Py_XSETREF(g->ps.context, Py_XNewRef(t->context));
            Py_XSETREF(g->birth_code, Py_XNewRef(t->birth_code));
            g->birth_lasti = t->birth_lasti;
            g_start_for(m, g, t->parent_id, t->run);
            Py_DECREF(g);
        }
    }
    Py_DECREF(t); /* the heap's */
    if (raised != NULL) {
        set_raised(raised);
    }
}

/* t->mu is held, or t is new.  A thread of the blocking pool waits for jobs, not
 * for timers: main's thread does it. */
static void
func_arm(M *m, TimerObject *t, int64_t ns)
{
    if (m->is_worker && sched.main != NULL) {
        m = sched.main;
    }
    Py_INCREF(t);
    t->m = m;
    t->t = timer_start(m, ns, func_fire, t);
    t->id = t->t->id;
    if (m != tls_m) {
        m_rouse(m);
    }
}

/* Whether it was armed.  The heap's reference is the caller's then. */
static bool
func_disarm(TimerObject *t)
{
    bool was = t->t != NULL && timer_cancel(t->m, t->t, t->id);
    t->t = NULL;
    return was;
}

/* Stop, and if ns >= 0 start again.  Whether it was still to come. */
static bool
func_set(M *m, TimerObject *t, int64_t ns)
{
    LOCK(&t->mu);
    bool armed = func_disarm(t);
    if (ns >= 0) {
        func_arm(m, t, ns);
    }
    UNLOCK(&t->mu);
    if (armed) {
        Py_DECREF(t);
    }
    return armed;
}

/* Some Timer of m's heap that has a function, a new reference; or NULL. */
static TimerObject *
any_func(M *m)
{
    Timers *ts = &m->timers;
    TimerObject *found = NULL;
    LOCK(&ts->mu);
    for (Py_ssize_t i = 0; i < ts->n && found == NULL; i++) {
        if (ts->heap[i].t->fire == func_fire) {
            found = (TimerObject *)Py_NewRef((PyObject *)ts->heap[i].t->arg);
        }
    }
    UNLOCK(&ts->mu);
    return found;
}

/* m's thread ends: its functions run in the main thread when their time comes.
 * Each look starts anew, since stopping one may rearrange the heap. */
void
timer_funcs_hand_over(M *m)
{
    M *to = sched.main;
    TimerObject *o;
    while ((o = any_func(m)) != NULL) {
        LOCK(&o->mu);
        int64_t ns = o->t != NULL ? o->t->when - clock_now() : 0;
        bool armed = o->m == m && func_disarm(o);
        if (armed && to != NULL && to != m) {
            func_arm(to, o, ns > 0 ? ns : 0);
        }
        UNLOCK(&o->mu);
        if (armed) {
            Py_DECREF(o);
        }
        Py_DECREF(o);
    }
}

static PyObject *
chan_new_timed(int64_t ns, int64_t period)
{
    Chan *c = (Chan *)chan_type->tp_alloc(chan_type, 0);
    if (c != NULL) {
        ticks_init(c, ns, period);
    }
    return (PyObject *)c;
}

/* The one argument of a Timer or Ticker; for a period, more than 0. */
static int
one_time_arg(const char *who, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
             bool is_period, int64_t *ns)
{
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs + nkw != 1 || (nkw == 1 && PyUnicode_CompareWithASCIIString(
                                             PyTuple_GET_ITEM(kwnames, 0), "seconds") != 0)) {
        PyErr_Format(PyExc_TypeError, "%s(seconds) takes exactly one argument", who);
        return -1;
    }
    if (seconds_arg(args[0], who, ns) < 0) {
        return -1;
    }
    if (is_period && *ns == 0) {
        PyErr_Format(PyExc_ValueError, "%s: the period must be more than 0 seconds, not %R", who,
                     args[0]);
        return -1;
    }
    return 0;
}

static PyObject *
timer_alloc(PyTypeObject *type, int64_t ns, int64_t period)
{
    TimerObject *t = (TimerObject *)type->tp_alloc(type, 0);
    if (t != NULL && (t->chan = chan_new_timed(ns, period)) == NULL) {
        Py_CLEAR(t);
    }
    return (PyObject *)t;
}

static PyObject *
Timer_vectorcall(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    int64_t ns;
    bool ticks = (PyTypeObject *)type == ticker_type;
    if (one_time_arg(ticks ? "Ticker" : "Timer", args, PyVectorcall_NARGS(nargsf), kwnames, ticks,
                     &ns) < 0) {
        return NULL;
    }
    return timer_alloc((PyTypeObject *)type, ns, ticks ? ns : 0);
}

static PyObject *
Timer_stop(TimerObject *t, PyObject *unused)
{
    M *m = getm();
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    return PyBool_FromLong(t->chan != NULL ? ticks_set((Chan *)t->chan, -1, 0)
                                           : func_set(m, t, -1));
}

static PyObject *
Timer_reset(TimerObject *t, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns;
    if (m == NULL || one_time_arg("Timer.reset", args, nargs, kwnames, false, &ns) < 0) {
        return NULL;
    }
    return PyBool_FromLong(t->chan != NULL ? ticks_set((Chan *)t->chan, ns, 0)
                                           : func_set(m, t, ns));
}

static PyObject *
Ticker_stop(TimerObject *t, PyObject *unused)
{
    (void)unused;
    ticks_set((Chan *)t->chan, -1, 0);
    Py_RETURN_NONE;
}

static PyObject *
Ticker_reset(TimerObject *t, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t ns;
    if (one_time_arg("Ticker.reset", args, nargs, kwnames, true, &ns) < 0) {
        return NULL;
    }
    ticks_set((Chan *)t->chan, ns, ns);
    Py_RETURN_NONE;
}

static PyObject *
Timer_get_c(TimerObject *t, void *unused)
{
    (void)unused;
    return Py_NewRef(t->chan != NULL ? t->chan : Py_None);
}

static PyObject *
Timer_repr(TimerObject *t)
{
    if (t->fn != NULL) {
        LOCK(&t->mu);
        bool armed = t->t != NULL && t->t->id == t->id;
        UNLOCK(&t->mu);
        return PyUnicode_FromFormat("<Timer of %R %s at %p>", t->fn, armed ? "armed" : "stopped",
                                    t);
    }
    Chan *c = (Chan *)t->chan;
    return PyUnicode_FromFormat("<%s %s at %p>", Py_TYPE(t) == ticker_type ? "Ticker" : "Timer",
                                c->when != 0 ? "armed" : "stopped", t);
}

static int
Timer_traverse(TimerObject *t, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(t));
    Py_VISIT(t->chan);
    Py_VISIT(t->fn);
    Py_VISIT(t->context);
    return 0;
}

static int
Timer_clear(TimerObject *t)
{
    Py_CLEAR(t->fn);
    Py_CLEAR(t->context);
    return 0;
}

static void
Timer_dealloc(TimerObject *t)
{
    PyTypeObject *type = Py_TYPE(t);
    PyObject_GC_UnTrack(t);
    if (t->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)t);
    }
    Py_CLEAR(t->chan);
    Py_CLEAR(t->fn);
    Py_CLEAR(t->context);
    Py_CLEAR(t->birth_code);
    run_release(t->run);
    type->tp_free(t);
    Py_DECREF(type);
}

static PyMethodDef timer_methods[] = {
    METHOD("stop", Timer_stop, METH_NOARGS,
           PyDoc_STR("stop($self)\n--\n\n"
                     "Stop the timer; return whether it was still to fire.  After that nothing is\n"
                     "received from its channel, and its function is not started.")),
    METHOD("reset", Timer_reset, FASTKW,
           PyDoc_STR("reset($self, seconds)\n--\n\n"
                     "Let it fire so many seconds from now; return whether it was still to fire.\n"
                     "A tick of before is never received afterwards.")),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef ticker_methods[] = {
    METHOD("stop", Ticker_stop, METH_NOARGS,
           PyDoc_STR("stop($self)\n--\n\n"
                     "Stop ticking.  The channel is not closed, as in Go.")),
    METHOD("reset", Ticker_reset, FASTKW,
           PyDoc_STR("reset($self, seconds)\n--\n\n"
                     "Tick every so many seconds, first so many seconds from now.  Raises\n"
                     "ValueError unless that is more than 0.")),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef timer_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(TimerObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef timer_getset[] = {
    {"c", (getter)Timer_get_c, NULL,
     PyDoc_STR("The channel that ticks: floats of time.now().  None if a function is called."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define TIMER_SLOTS(doc, methods)                                                                  \
    {                                                                                              \
        {Py_tp_doc, (void *)PyDoc_STR(doc)},                                                       \
        {Py_tp_dealloc, Timer_dealloc},                                                            \
        {Py_tp_traverse, Timer_traverse},                                                          \
        {Py_tp_clear, Timer_clear},                                                                \
        {Py_tp_repr, Timer_repr},                                                                  \
        {Py_tp_methods, methods},                                                                  \
        {Py_tp_members, timer_members},                                                            \
        {Py_tp_getset, timer_getset},                                                              \
        {0, NULL},                                                                                 \
    }

static PyType_Slot timer_slots[] = TIMER_SLOTS(
    "Timer(seconds)\n--\n\n"
    "Ticks once: after so many seconds `c` gives one value, the time (Go's time.Timer).\n"
    "A timer that nobody waits for costs nothing and need not be stopped.",
    timer_methods);

static PyType_Slot ticker_slots[] = TIMER_SLOTS(
    "Ticker(seconds)\n--\n\n"
    "Ticks every so many seconds: `c` gives the time of each tick, and drops those that a\n"
    "slow receiver misses (Go's time.Ticker).  Raises ValueError unless seconds > 0.",
    ticker_methods);

#define TIMER_SPEC(type_name, type_slots)                                                          \
    {                                                                                              \
        .name = type_name,                                                                         \
        .basicsize = sizeof(TimerObject),                                                          \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |              \
                 Py_TPFLAGS_DISALLOW_INSTANTIATION,                                                \
        .slots = type_slots,                                                                       \
    }

static PyType_Spec timer_spec = TIMER_SPEC("goroutines.time.Timer", timer_slots);
static PyType_Spec ticker_spec = TIMER_SPEC("goroutines.time.Ticker", ticker_slots);

/* ---- functions ------------------------------------------------------------------------------- */

static PyObject *
rt_after(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t ns;
    (void)mod;
    if (one_time_arg("after", args, nargs, kwnames, false, &ns) < 0) {
        return NULL;
    }
    return chan_new_timed(ns, 0);
}

static PyObject *
rt_tick(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t ns;
    (void)mod;
    if (one_time_arg("tick", args, nargs, kwnames, true, &ns) < 0) {
        return NULL;
    }
    return chan_new_timed(ns, ns);
}

/* Remember who asks: the function's goroutine is its. */
static int
func_origin(M *m, TimerObject *t)
{
    G *parent = current_g(m);
    if (!context_is_empty(m->ts->context)) {
        t->context = PyContext_Copy(m->ts->context);
        if (t->context == NULL) {
            return -1;
        }
    }
    t->birth_code = birth_code(m, &t->birth_lasti);
    t->parent_id = g_shown_id(parent);
    t->run = parent->run;
    if (t->run != NULL) {
        t->run->refs++;
    }
    return 0;
}

static PyObject *
rt_after_func(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    int64_t ns;
    (void)mod;
    if (nargs != 2 || (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0)) {
        PyErr_SetString(PyExc_TypeError, "after_func(seconds, fn) takes exactly two arguments");
        return NULL;
    }
    if (m == NULL || seconds_arg(args[0], "after_func: seconds", &ns) < 0 ||
        callable_arg("after_func", args + 1, 1) == NULL || may_start(args[1]) < 0) {
        return NULL;
    }
    TimerObject *t = (TimerObject *)timer_type->tp_alloc(timer_type, 0);
    if (t == NULL) {
        return NULL;
    }
    t->fn = Py_NewRef(args[1]);
    if (func_origin(m, t) < 0) {
        Py_DECREF(t);
        return NULL;
    }
    func_arm(m, t, ns);
    return (PyObject *)t;
}

static PyObject *
rt_now(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    return PyFloat_FromDouble(as_seconds(clock_now()));
}

static PyObject *
rt_freeze_clock(PyObject *mod, PyObject *on)
{
    (void)mod;
    return PyBool_FromLong(clock_freeze(PyObject_IsTrue(on) == 1));
}

static PyMethodDef functions[] = {
    METHOD("after", rt_after, FASTKW,
           PyDoc_STR("after(seconds)\n--\n\n"
                     "A channel that gives one value, the time, after so many seconds\n"
                     "(time.After).  Raises TypeError or ValueError for no number.")),
    METHOD("tick", rt_tick, FASTKW,
           PyDoc_STR("tick(seconds)\n--\n\n"
                     "The channel of a Ticker that need not be stopped (time.Tick).  Raises\n"
                     "ValueError unless seconds > 0.")),
    METHOD("after_func", rt_after_func, FASTKW,
           PyDoc_STR("after_func(seconds, fn, /)\n--\n\n"
                     "Call fn() in a goroutine of its own after so many seconds; returns the\n"
                     "Timer, whose stop() prevents it (time.AfterFunc).")),
    METHOD("now", rt_now, METH_NOARGS,
           PyDoc_STR("now()\n--\n\nThe monotonic clock that timers go by, in seconds.")),
    METHOD("_freeze_clock", rt_freeze_clock, METH_O, PyDoc_STR("For testing.fake_clock.")),
    {NULL, NULL, 0, NULL},
};

int
timer_add_types(PyObject *mod)
{
    timer_type = add_type(mod, &timer_spec);
    ticker_type = timer_type != NULL ? add_type(mod, &ticker_spec) : NULL;
    if (ticker_type == NULL) {
        return -1;
    }
    timer_type->tp_vectorcall = ticker_type->tp_vectorcall = Timer_vectorcall;
    return PyModule_AddFunctions(mod, functions);
}
