/* SPDX-License-Identifier: MIT
 *
 * leak.c: goroutines that nothing can wake are found and ended.
 *
 * A goroutine that waits without a limit on a channel or a lock is a candidate.
 * It is leaked if no reference leads to what it waits for, but for those that
 * candidates hold which are leaked themselves.  This is worked out by counting,
 * as the garbage collector does it, but only over what candidates reach:
 *
 *   1 count    go through all that candidates hold (their frames, arguments,
 *              contexts), and what that refers to in turn, and count for each
 *              object how many of its references were met
 *   2 roots    an object with a reference that was not met has it from outside:
 *              it is reached, and so is all that it refers to
 *   3 wake     who waits for an object that is reached is reached, with all
 *              that he holds; again until nothing more is
 *   4 end      the candidates that are left are claimed; their story is noted,
 *              and GoroutineExit is raised in them
 *
 * What is not met makes a leak be missed, never a living goroutine be ended.  So
 * whatever is uncertain is not counted: what C code in the middle of a stack
 * holds, modules and classes (step 1 stops there, which keeps it short), wherever
 * the evaluation stack's size is not known.
 *
 * Rejected: to let channels' tp_traverse show what their waiters hold, and the
 * collector find them.  It clears weak references and closes generators before
 * any `finally` block has run, runs a finalizer once only, and clears what is
 * garbage then though a goroutine may still come back to it.
 *
 * Invariants: from step 1 to the claims of step 4 no Python code runs and no
 * other thread does (the GIL; without one the world is stopped).  One search at
 * a time (`searching`).
 */
#include "frames.h"

#include <unistd.h>

typedef struct {
    PyObject *o;
    Py_ssize_t met; /* references found */
    int32_t waiter; /* first of those that are reached with it; -1: none */
    bool border;    /* not gone beyond: taken for reached */
    bool inner;     /* only its own goroutine can use it, whoever refers to it */
    bool receives;  /* a channel that nobody waits to send on */
    bool reached;
} Node;

typedef struct {
    G *g;
    bool reached;
} Candidate;

typedef struct {
    int32_t candidate, next;
} Waiter;

typedef struct {
    Node *nodes;
    int32_t nnodes, cap;
    int32_t *slots; /* hash table of indexes into nodes, -1: free */
    size_t mask;
    Candidate *candidates;
    int32_t ncandidates, candidates_cap;
    Waiter *waiters;
    int32_t nwaiters, waiters_cap;
    int32_t *todo; /* reached, and not gone through yet */
    int32_t ntodo;
    bool failed; /* no memory: nobody is leaked */
} Search;

static atomic_flag searching = ATOMIC_FLAG_INIT;

/* Room for one more in an array that doubles. */
static void *
grown(void *v, int32_t n, int32_t *cap, size_t size)
{
    if (n < *cap) {
        return v;
    }
    int32_t more = *cap ? *cap * 2 : 64;
    void *w = more > *cap ? realloc(v, (size_t)more * size) : NULL;
    if (w != NULL) {
        *cap = more;
    }
    return w;
}

/* ---- the table of objects ---------------------------------------------------------- */

static inline size_t
hash(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20);
}

static inline int32_t *
slot_of(Search *s, PyObject *o)
{
    size_t i = hash(o) & s->mask;
    while (s->slots[i] >= 0 && s->nodes[s->slots[i]].o != o) {
        i = (i + 1) & s->mask;
    }
    return &s->slots[i];
}

static inline Node *
find(Search *s, PyObject *o)
{
    int32_t i = *slot_of(s, o);
    return i < 0 ? NULL : &s->nodes[i];
}

static bool
rehash(Search *s, size_t n)
{
    int32_t *slots = malloc(n * sizeof(int32_t));
    if (slots == NULL) {
        return false;
    }
    memset(slots, 0xff, n * sizeof(int32_t));
    free(s->slots);
    s->slots = slots;
    s->mask = n - 1;
    for (int32_t i = 0; i < s->nnodes; i++) {
        *slot_of(s, s->nodes[i].o) = i;
    }
    return true;
}

static bool
is_border(PyObject *o)
{
    return PyType_Check(o) || PyModule_Check(o);
}

static Node *
add(Search *s, PyObject *o)
{
    Node *old = find(s, o);
    if (old != NULL) {
        return old;
    }
    Node *v = grown(s->nodes, s->nnodes, &s->cap, sizeof(Node));
    s->nodes = v != NULL ? v : s->nodes;
    if (v == NULL || ((size_t)s->nnodes * 2 >= s->mask && !rehash(s, (s->mask + 1) * 4))) {
        s->failed = true;
        return NULL;
    }
    *slot_of(s, o) = s->nnodes;
    v[s->nnodes] = (Node){.o = o, .waiter = -1, .border = is_border(o)};
    return &v[s->nnodes++];
}

/* The globals of functions are whole modules: not gone beyond either. */
static void
add_globals(Search *s, PyObject *function)
{
    PyObject *dicts[] = {((PyFunctionObject *)function)->func_globals,
                         ((PyFunctionObject *)function)->func_builtins};
    for (int i = 0; i < 2; i++) {
        Node *n = dicts[i] != NULL ? add(s, dicts[i]) : NULL;
        if (n != NULL) {
            n->border = true;
        }
    }
}

/* A visitproc: one of o's references. */
static int
meet(PyObject *o, void *arg)
{
    Search *s = arg;
    Node *n = find(s, o);
    if (n == NULL) {
        if (!PyObject_IS_GC(o) || (n = add(s, o)) == NULL) {
            return 0;
        }
        if (PyFunction_Check(o)) {
            add_globals(s, o);
            n = find(s, o);
        }
    }
    n->met++;
    return 0;
}

/* The same for what may be no reference, nor an object: counts if it is known to be one. */
static int
meet_known(PyObject *o, void *arg)
{
    Node *n = find(arg, o);
    if (n != NULL) {
        n->met++;
    }
    return 0;
}

static int
reach(PyObject *o, void *arg)
{
    Search *s = arg;
    Node *n = find(s, o);
    if (n != NULL && !n->reached) {
        n->reached = true;
        s->todo[s->ntodo++] = (int32_t)(n - s->nodes);
    }
    return 0;
}

/* ---- what a goroutine holds ------------------------------------------------------------ */

/* Whether f may be running for an object that dies: then its caller's arguments
 * may be gone already. */
static bool
is_finalizer(PyFrameData *f)
{
    PyCodeObject *code = frame_code(f);
    if (PyUnicode_CompareWithASCIIString(code->co_name, "__del__") == 0) {
        return true;
    }
    PyObject *gen = frame_generator(f);
    PyObject *handled = gen != NULL ? ((PyGenObject *)gen)->gi_exc_state.exc_value : NULL;
    if (handled != NULL && PyErr_GivenExceptionMatches(handled, PyExc_GeneratorExit)) {
        return true;
    }
    for (int i = 0; i < code->co_nlocalsplus; i++) { /* the callback of a weak reference */
        PyObject *o = frame_slot(f, i);
        if (o != NULL && PyWeakref_Check(o)) {
            return true;
        }
    }
    return false;
}

/* What `with mu` has in hand up to 3.13, beside the stack: the methods __enter__
 * and __exit__ of what is waited for. */
static void
visit_methods(G *g, PyFrameData *f, const Place *p, visitproc visit, void *arg)
{
    PyObject *o = g->sg.elem;
    int at = frame_code(f)->co_nlocalsplus + p->slots;
#if PY_VERSION_HEX >= 0x030C0000
    bool same = o != NULL && frame_slot(f, at) == o; /* what was there is now in the methods */
#else
    PyObject *exit = frame_slot(f, at - 1);
    bool same = exit != NULL && PyCFunction_Check(exit) && PyCFunction_GET_SELF(exit) == o;
#endif
    for (int i = 0; same && i < p->held; i++) {
        visit(o, arg);
    }
}

/* What `select(*cases)` has: a tuple, made of a list or not. */
static void
visit_cases(G *g, PyFrameData *f, const Place *p, visitproc visit, void *arg)
{
    int top = frame_code(f)->co_nlocalsplus + p->slots;
    for (int i = 1; g->reason == WAIT_SELECT && i <= 2 && i <= p->slots; i++) {
        PyObject *function = frame_slot(f, top - i); /* in 3.13 a NULL is above it */
        if (function != NULL && is_select(function)) {
            visit((PyObject *)((char *)g->sg.prev - offsetof(PyTupleObject, ob_item)), arg);
        }
    }
}

/* The part of f's evaluation stack that only the code tells of.  If f itself waits
 * it is in the midst of a call, and owns the arguments.  If it called other code,
 * which waits, it may also be dropping them: `unsure`. */
static void
visit_stack(Search *s, G *g, PyFrameData *f, PyFrameData *inner, visitproc visit, visitproc unsure)
{
    const Place *p = place_of(f);
    bool waits_for_weakref = g->reason == WAIT_CHAN_SEND && g->sg.elem != NULL &&
                             PyWeakref_Check(g->sg.elem); /* a callback: ch.send itself */
    if (p == NULL || p->slots < 0 || waits_for_weakref || (inner != NULL && is_finalizer(inner))) {
        return;
    }
    visitproc how = inner == NULL ? visit : unsure;
    int vars = frame_code(f)->co_nlocalsplus;
    for (int i = vars; i < vars + p->slots; i++) {
        PyObject *o = frame_slot(f, i);
        if (o != NULL && how != NULL) {
            how(o, s);
        }
    }
    if (inner == NULL && visit != NULL && p->held > 0 && g->reason != WAIT_CHAN_SEND) {
        visit_methods(g, f, p, visit, s);
    }
    if (inner == NULL && visit != NULL && p->held == ARGS_TUPLE) {
        visit_cases(g, f, p, visit, s);
    }
}

/* The map of `_defer.py` holds the frames of @defers, and what is deferred in them:
 * nobody asks it but with such a frame. */
static void
visit_deferred(Search *s, PyObject *frame, visitproc visit)
{
    PyObject *record = PyDict_GetItemWithError(sched.deferring, frame);
    if (record != NULL) {
        visit(frame, s);
        visit(record, s);
    }
}

/* A frame; `inner` is the one it called, if any.  What a generator shows of its
 * frame by itself is left to that. */
static void
visit_frame(Search *s, G *g, PyFrameData *f, PyFrameData *inner, visitproc visit, visitproc unsure)
{
    PyObject *gen = frame_generator(f);
    Py_ssize_t slots = frame_slots(f), vars = frame_code(f)->co_nlocalsplus;
    if (visit != NULL && gen != NULL) {
        visit(gen, s);
        for (Py_ssize_t i = 0; slots < 0 && i < vars; i++) {
            PyObject *o = frame_slot(f, i);
            if (o != NULL) {
                visit(o, s);
            }
        }
    }
    else if (visit != NULL) {
        frame_visit(f, slots < 0 ? vars : slots, visit, s);
        if (f->frame_obj != NULL) {
            visit_deferred(s, (PyObject *)f->frame_obj, visit);
        }
    }
    if (slots < 0) {
        visit_stack(s, g, f, inner, visit, unsure);
    }
}

/* The thread state that g's state is still in, or NULL. */
static inline PyThreadState *
loaded_in(G *g)
{
    return g->m->loaded == g ? g->m->ts : NULL;
}

static inline PyFrameData *
innermost(G *g)
{
    PyThreadState *ts = loaded_in(g);
    PyFrameData *f = ts != NULL ? pystate_current_frame(ts) : g->ps.frame;
    while (f != NULL && frame_is_entry(f)) {
        f = f->previous;
    }
    return f;
}

static inline PyFrameData *
outer(PyFrameData *f)
{
    do {
        f = f->previous;
    } while (f != NULL && frame_is_entry(f));
    return f;
}

/* Call visit for each reference that g is known to own, and unsure for what may
 * be one; either may be NULL. */
static void
visit_goroutine(Search *s, G *g, visitproc visit, visitproc unsure)
{
    PyThreadState *ts = loaded_in(g);
    PyObject *const own[] = {g->fn,
                             g->args,
                             g->waitgroup,
                             pystate_handled(&g->ps, ts),
                             pystate_context(&g->ps, ts),
                             g->reason == WAIT_SELECT ? NULL : g->sg.elem};
    if (visit != NULL) {
        visit_all(own, Py_ARRAY_LENGTH(own), visit, s);
    }
    if (visit != NULL && (g->reason == WAIT_CHAN_RECEIVE || g->reason == WAIT_CHAN_SEND)) {
        visit((PyObject *)g->sg.chan, s); /* who waits keeps it */
    }
    for (int32_t i = 0; visit != NULL && g->reason == WAIT_SELECT && i < g->sg.index; i++) {
        PyObject *value = g->sg.next[i].elem;
        if (value != NULL) {
            visit(value, s);
        }
    }
    PyFrameData *inner = NULL;
    for (PyFrameData *f = innermost(g); f != NULL; f = outer(f)) {
        visit_frame(s, g, f, inner, visit, unsure);
        inner = f;
    }
}

/* ---- candidates ------------------------------------------------------------------------ */

/* How many objects g waits for, and the i-th of them. */
static int32_t
waits_for(G *g)
{
    switch (g->reason) {
    case WAIT_CHAN_RECEIVE:
    case WAIT_CHAN_SEND:
        return 1;
    case WAIT_SELECT:
        return g->sg.index;
    case WAIT_MUTEX_LOCK:
    case WAIT_RWMUTEX_LOCK:
    case WAIT_RWMUTEX_RLOCK:
    case WAIT_WAITGROUP:
    case WAIT_SEMAPHORE:
    case WAIT_COND:
        return 1;
    default:
        return 0; /* whom something else than a reference can wake */
    }
}

static PyObject *
waited_for(G *g, int32_t i)
{
    switch (g->reason) {
    case WAIT_SELECT:
        return (PyObject *)g->sg.next[i].chan;
    case WAIT_CHAN_RECEIVE:
    case WAIT_CHAN_SEND:
        return (PyObject *)g->sg.chan;
    default:
        return g->sg.elem;
    }
}

static bool
is_timed(PyObject *o)
{
    return o != NULL && Py_TYPE(o) == chan_type && ((Chan *)o)->timed;
}

/* Whether g waits, and nothing but a reference to what it waits for can wake it. */
static bool
is_candidate(G *g)
{
    if (g->status != G_WAITING || atomic_load(&g->wake) != WAKE_NOT_YET || g->thread_main ||
        g->system || g->timer != NULL || g->scope != NULL || g->pending != NULL || g->exiting ||
        g->insists) {
        return false;
    }
    M *m = g->m;
    if (loaded_in(g) != NULL && (m->curg != NULL || !(atomic_load(&m->sleeping) || m->spins))) {
        return false; /* its thread runs a destructor or the like on top of it */
    }
    bool any = false;
    for (int32_t i = waits_for(g); i-- > 0;) {
        PyObject *o = waited_for(g, i);
        if (is_timed(o)) {
            return false;
        }
        any |= o != NULL;
    }
    return any;
}

static void
add_candidate(Search *s, G *g)
{
    Candidate *v = grown(s->candidates, s->ncandidates, &s->candidates_cap, sizeof(Candidate));
    if (v == NULL) {
        s->failed = true;
        return;
    }
    s->candidates = v;
    v[s->ncandidates++] = (Candidate){.g = g};
}

/* The c-th candidate is reached with o. */
static void
add_waiter(Search *s, PyObject *o, int32_t c)
{
    Node *n = o != NULL ? add(s, o) : NULL;
    Waiter *v = n != NULL ? grown(s->waiters, s->nwaiters, &s->waiters_cap, sizeof(Waiter)) : NULL;
    if (v == NULL) {
        s->failed |= o != NULL;
        return;
    }
    s->waiters = v;
    v[s->nwaiters] = (Waiter){.candidate = c, .next = n->waiter};
    n->waiter = s->nwaiters++;
    if (Py_TYPE(o) == chan_type) {
        n->receives = ((Chan *)o)->sendq.first == NULL;
    }
}

/* ---- the search --------------------------------------------------------------------------- */

/* Step 1 for what a candidate holds itself. */
static void
count_candidate(Search *s, int32_t c)
{
    G *g = s->candidates[c].g;
    for (int32_t i = waits_for(g); i-- > 0;) {
        add_waiter(s, waited_for(g, i), c);
    }
    visit_goroutine(s, g, meet, NULL);
    for (PyFrameData *f = innermost(g); f != NULL; f = outer(f)) {
        PyObject *gen = frame_generator(f);
        Node *n = gen != NULL ? find(s, gen) : NULL;
        if (n != NULL) {
            n->inner = true; /* nobody else can resume one that runs */
        }
        if (f->frame_obj != NULL) { /* shows all variables */
            add_waiter(s, (PyObject *)f->frame_obj, c);
        }
    }
}

/* An iterator can only receive: no receiver is woken through it. */
static bool
is_harmless(Search *s, PyObject *o)
{
    Chan *c = chan_of_iterator(o);
    Node *n = c != NULL ? find(s, (PyObject *)c) : NULL;
    return n != NULL && n->receives;
}

static void
traverse(Search *s, int32_t i, visitproc visit)
{
    PyObject *o = s->nodes[i].o;
    if (!s->nodes[i].border && PyObject_IS_GC(o) && !is_harmless(s, o) &&
        !visit_with_frame(o, visit, s)) {
        Py_TYPE(o)->tp_traverse(o, visit, s);
    }
}

static void
count_all(Search *s)
{
    for (int32_t c = 0; c < s->ncandidates && !s->failed; c++) {
        count_candidate(s, c);
    }
    for (int32_t i = 0; i < s->nnodes && !s->failed; i++) {
        traverse(s, i, meet);
    }
    for (int32_t c = 0; c < s->ncandidates && !s->failed; c++) {
        visit_goroutine(s, s->candidates[c].g, NULL, meet_known);
    }
}

static bool
is_root(const Node *n)
{
    if (n->border) {
        return true;
    }
    Py_ssize_t known = n->met;
    if (n->receives) {
        known += atomic_load_explicit(&((Chan *)n->o)->iters, memory_order_relaxed);
    }
    return !n->inner && known != Py_REFCNT(n->o);
}

static void
reach_candidate(Search *s, Candidate *c)
{
    if (!c->reached) {
        c->reached = true;
        visit_goroutine(s, c->g, reach, reach);
    }
}

static void
reach_all(Search *s)
{
    s->todo = malloc((size_t)(s->nnodes + 1) * sizeof(int32_t));
    if (s->todo == NULL) {
        s->failed = true;
        return;
    }
    for (int32_t i = 0; i < s->nnodes; i++) {
        if (is_root(&s->nodes[i])) {
            reach(s->nodes[i].o, s);
        }
    }
    while (s->ntodo > 0) {
        int32_t i = s->todo[--s->ntodo];
        for (int32_t w = s->nodes[i].waiter; w >= 0; w = s->waiters[w].next) {
            reach_candidate(s, &s->candidates[s->waiters[w].candidate]);
        }
        traverse(s, i, reach);
    }
}

/* Step 4's first half: whoever is left is ours to wake. */
static void
claim_all(Search *s)
{
    int32_t n = 0;
    for (int32_t c = 0; c < s->ncandidates; c++) {
        G *g = s->candidates[c].g;
        if (!s->failed && !s->candidates[c].reached && g_claim(g, WAKE_EXCEPTION)) {
            s->candidates[n++].g = g;
        }
    }
    s->ncandidates = n;
}

/* All steps but the last; calls no Python code.  Leaves those who leak as candidates. */
static int
search(PyObject *unused, void *arg)
{
    Search *s = arg;
    (void)unused;
    for (M *m = sched.ms; m != NULL; m = m->next) {
        for (G *g = m->allgs; g != NULL; g = g->allnext) {
            if (is_candidate(g)) {
                add_candidate(s, g);
            }
        }
    }
    if (s->ncandidates > 0 && rehash(s, 1024)) {
        count_all(s);
        if (!s->failed) {
            reach_all(s);
        }
    }
    claim_all(s);
    return 0; /* see no other object */
}

static void
search_stopped(Search *s)
{
#ifdef Py_GIL_DISABLED
    PyUnstable_GC_VisitObjects(search, s); /* calls it once, with all threads stopped */
#else
    search(NULL, s);
#endif
}

static void
search_free(Search *s)
{
    free(s->nodes);
    free(s->slots);
    free(s->candidates);
    free(s->waiters);
    free(s->todo);
}

/* Note a leaked goroutine, and have it end. */
static void
end_leaked(G *g)
{
    bool would_end = (g->run != NULL && g->run->main != NULL) || g->m->proc < 0;
    PyObject *r = PyObject_CallFunctionObjArgs(sched.leak_found, (PyObject *)g,
                                               would_end ? Py_True : Py_False, NULL);
    if (r == NULL) {
        PyErr_WriteUnraisable((PyObject *)g);
    }
    Py_XDECREF(r);
    PyObject *exit = PyObject_CallNoArgs(sched.goroutine_exit);
    if (exit == NULL) {
        PyErr_Clear();
        atomic_store(&g->exiting, true); /* says the same */
    }
    LOCK(&g->mu);
    g->pending = exit;
    UNLOCK(&g->mu);
    goready(g);
}

/* Find and end all that leak.  False: no new places were met. */
static bool
search_once(void)
{
    Search s = {0};
    search_stopped(&s);
    for (int32_t i = s.ncandidates; i-- > 0;) { /* the oldest first */
        end_leaked(s.candidates[i].g);
    }
    search_free(&s);
    return places_measure();
}

static void
look(M *m)
{
    bool in_gc = m->in_gc;
    PyObject *raised = take_raised();
    m->in_gc = true; /* who is claimed is not woken yet: no other goroutine runs meanwhile */
    places_trim();
    while (search_once()) { /* with the new places measured it may find more */
    }
    m->in_gc = in_gc;
    if (raised != NULL) {
        set_raised(raised);
    }
}

/* ---- when ------------------------------------------------------------------------------------ */

/* After collections of young objects: not more often than this, and at most one
 * part in so many of the time. */
#define PAUSE ((int64_t)100 * 1000000)
#define SHARE 50

static _Atomic(int64_t) next_look;
static pid_t process; /* in a child of fork it is another one until leaks_after_fork */

void
leaks_after_fork(void)
{
    process = getpid();
    atomic_store(&next_look, nanotime() + PAUSE);
    atomic_flag_clear(&searching);
}

static void
look_once(M *m)
{
    if (sched.leak_found == NULL || sched.finalizing || sched.reporting ||
        atomic_load(&sched.ngoroutines) == 0 || getpid() != process ||
        atomic_flag_test_and_set(&searching)) {
        return;
    }
    int64_t began = nanotime();
    look(m);
    int64_t now = nanotime(), pause = (now - began) * SHARE;
    atomic_store(&next_look, now + (pause > PAUSE ? pause : PAUSE));
    atomic_flag_clear(&searching);
}

/* A collection has ended, of all objects or of the young ones. */
void
leaks_after_collection(M *m, bool full)
{
    if (full || nanotime() >= atomic_load(&next_look)) {
        look_once(m);
    }
}

static PyObject *
rt_look_for_leaks(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    look_once(m);
    Py_RETURN_NONE;
}

static PyObject *
rt_set_leak_hooks(PyObject *mod, PyObject *args)
{
    PyObject *found, *measure, *deferring;
    (void)mod;
    if (!PyArg_ParseTuple(args, "OOO!:_set_leak_hooks", &found, &measure, &PyDict_Type,
                          &deferring)) {
        return NULL;
    }
    Py_XSETREF(sched.deferring, Py_NewRef(deferring));
    Py_XSETREF(sched.leak_found, Py_NewRef(found));
    Py_XSETREF(sched.leak_measure, Py_NewRef(measure));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    METHOD("_look_for_leaks", rt_look_for_leaks, METH_NOARGS,
           PyDoc_STR("_look_for_leaks(): find the goroutines that nothing can wake, end them.")),
    METHOD("_set_leak_hooks", rt_set_leak_hooks, METH_VARARGS,
           PyDoc_STR(
               "_set_leak_hooks(found, measure, deferring): found(goroutine, would_end), before\n"
               "it is ended; measure(code, lasti) -> (slots, held); the records of @defers.")),
    {NULL, NULL, 0, NULL},
};

int
leak_add_functions(PyObject *mod)
{
    leaks_after_fork();
    return PyModule_AddFunctions(mod, functions);
}
