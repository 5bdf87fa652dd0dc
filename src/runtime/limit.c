/* SPDX-License-Identifier: MIT
 *
 * limit.c: how deep a goroutine may go, and how much its stack takes.
 *
 * A goroutine has its part of the C stack, below m->base, and the chunks of its
 * Python frames.  Beyond max_stack it gets a RecursionError from CPython
 * itself, whose own limits are moved for that, so that neither a call nor a
 * switch costs anything:
 *
 *   Python frames   CPython asks stack.c for memory each 16 KiB of frames.  If
 *                   frames and C stack together would then be beyond the
 *                   maximum, calls of Python functions are stopped
 *                   (limit_look), and allowed again when that chunk is left.
 *   C, 3.14+        CPython compares the stack pointer with an address.  Each M
 *                   has one for its goroutines and one for the thread itself.
 *   C, 3.12, 3.13   CPython counts C calls, whatever they take: a goroutine
 *                   gets as many as are usual for the maximum.
 *   3.11            counts both together, so limit_look also sets how many are
 *                   left.  Without chunks between it goes as with 3.12.
 *
 * Whatever the maximum, there is an end before the thread's own stack has one:
 * `room`, for which the counts are what the greediest C code takes.
 *
 * The thread's own goroutine (g0) has CPython's limits and nothing else.
 *
 * Rejected: a guard page (nothing can be raised from there); a look at each
 * park (the error would come where nothing is wrong).
 *
 * No locks: an M's Limits are its own thread's but for `counts` and `c_end`.
 */
#include "runtime.h"

#include <limits.h>

#define MAX_DEFAULT ((size_t)256 * 1024)
#define MAX_LEAST ((size_t)64 * 1024) /* nearly every goroutine has a chunk of 16 KiB */
#define RESERVE ((size_t)64 * 1024)   /* for C code that does not ask, below all limits */

/* What a C call takes of the stack for one that CPython counts, measured over all
 * ways to recurse that there are in the builtins: usual, and sorted()'s with a key. */
#define COUNT_USUAL 320
#define COUNT_MOST 2048
#define COUNTS_LEAST 256 /* 3.13 puts deallocations off when 100 are left */
/* 3.14+: it puts them off for as long as 64 KiB are not there. */
#define C_LEAST ((size_t)128 * 1024)

static _Atomic(size_t) max_stack = MAX_DEFAULT;

static inline size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline int
as_count(size_t n)
{
    return n < INT_MAX ? (int)n : INT_MAX;
}

/* ---- what there is ---------------------------------------------------------------------- */

#if PY_VERSION_HEX >= 0x030E0000

/* The bytes below the base that CPython lets this thread use. */
static size_t
stack_below(M *m)
{
    return (size_t)((uintptr_t)m->base - pystate_c_end(m->ts));
}

#else

#if defined(__APPLE__)

static uintptr_t
lowest_of_stack(uintptr_t base)
{
    pthread_t self = pthread_self();
    (void)base;
    return (uintptr_t)pthread_get_stackaddr_np(self) - pthread_get_stacksize_np(self);
}

#else

#include <sys/resource.h>

#define STACK_ASSUMED ((size_t)512 * 1024)

static uintptr_t
lowest_of_stack(uintptr_t base)
{
    uintptr_t lowest = base - STACK_ASSUMED;
    pthread_attr_t attr;
    void *at;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        if (pthread_attr_getstack(&attr, &at, &size) == 0) {
            lowest = (uintptr_t)at;
        }
        pthread_attr_destroy(&attr);
    }
#if !defined(__GLIBC__)
    /* musl tells what the main thread's stack has grown to; half of what it may is surely left. */
    struct rlimit limit;
    if (PyThread_get_thread_ident() == _PyRuntime.main_thread &&
        getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        base - limit.rlim_cur / 2 < lowest) {
        lowest = base - limit.rlim_cur / 2;
    }
#endif
    return lowest;
}

#endif

static size_t
stack_below(M *m)
{
    uintptr_t base = (uintptr_t)m->base, lowest = lowest_of_stack(base);
    return lowest < base ? base - lowest : 0;
}

#endif

/* Set what m's goroutines get, by max_stack. */
static void
limits_set(M *m)
{
    Limits *l = &m->limits;
    size_t max = atomic_load(&max_stack);
    size_t usual = max / COUNT_USUAL < COUNTS_LEAST ? COUNTS_LEAST : max / COUNT_USUAL;
    size_t c = least(max < C_LEAST ? C_LEAST : max, l->room);
    atomic_store(&l->counts,
                 as_count(least((size_t)l->c_left, least(usual, l->room / COUNT_MOST))));
    atomic_store(&l->c_end[0], (uintptr_t)m->base - c);
}

/* m's thread and its base are known. */
void
limits_bind(M *m)
{
    Limits *l = &m->limits;
    size_t below = stack_below(m);
    l->c_left = pystate_c_left(m->ts);
#if PY_VERSION_HEX >= 0x030E0000
    l->room = below; /* CPython has its reserve below that */
    atomic_store(&l->c_end[1], pystate_c_end(m->ts));
#else
    l->room = below > RESERVE ? below - RESERVE : 0;
#endif
    limits_set(m);
}

/* ---- what is used -------------------------------------------------------------------- */

static size_t
bytes_of_chunks(const _PyStackChunk *c)
{
    size_t n = 0;
    for (; c != NULL; c = c->previous) {
        n += c->size;
    }
    return n;
}

static inline size_t
c_depth(M *m, const char *sp)
{
    return sp < m->base ? (size_t)(m->base - sp) : 0;
}

/* The same for who runs on m; of a chunk that was made for a large frame, and is used
 * again for others, only what is used. */
static size_t
frames_in_use(M *m)
{
    size_t n = 0;
    const _PyStackChunk *c = m->ts->datastack_chunk;
    const char *top = (const char *)m->ts->datastack_top;
    for (; c != NULL; c = c->previous) {
        n += c->size > DATA_CHUNK ? (size_t)(top - (const char *)c) : c->size;
        if (c->previous != NULL) {
            top = (const char *)&c->previous->data[c->previous->top];
        }
    }
    return n;
}

/* The bytes of g's frames, where a chunk of `change` bytes comes in or (negative) goes,
 * if they may be more than max; else about as many.  g runs on m. */
static size_t
frames_used(M *m, G *g, ptrdiff_t change, size_t max)
{
    Limits *l = &m->limits;
    bool known = l->of == g->id && l->nswitch == m->nswitch;
    if (l->of != g->id) {
        l->held = 0;
        l->excess = 0;
    }
    l->frames += (size_t)change;
    if (!known || l->frames > max) {
        l->of = g->id;
        l->nswitch = m->nswitch;
        l->frames = frames_in_use(m) + (change > 0 ? (size_t)change : 0);
    }
    return l->frames;
}

/* CPython may use a chunk again without a word; a chunk that is nobody's stands for
 * none that it could use. */
#ifdef CACHED_CHUNK
#define UNSEEN DATA_CHUNK
#else
#define UNSEEN 0
#endif

static _PyStackChunk nobodys_chunk;

_PyStackChunk *
limit_nobodys_chunk(void)
{
    return &nobodys_chunk;
}

#define COUNTS_TO_CLEAN_UP 64
#define EXCESS_MOST 4

/* The chunk that was too much comes or goes: on the way up all may be called again. */
static void
apply(M *m, G *g, size_t left, size_t c_left, bool going)
{
    Limits *l = &m->limits;
    bool stop = !going && (left == 0 || c_left == 0);
    l->excess = stop ? l->excess + 1 : 0;
#if PY_VERSION_HEX < 0x030C0000
    size_t usual = left / COUNT_USUAL;
    if (going && usual < COUNTS_TO_CLEAN_UP) {
        usual = COUNTS_TO_CLEAN_UP;
    }
    pystate_allow(m->ts, &g->ps, as_count(least(usual, c_left / COUNT_MOST)));
#else
    (void)g;
    pystate_stop_calls(m->ts, &l->held, stop);
    if (stop) {
        watch_last_chunk(m->ts, &nobodys_chunk);
    }
#endif
}

/* CPython asks for its arenas of objects in the same way. */
static inline bool
may_be_chunk(ptrdiff_t change)
{
    ptrdiff_t size = change < 0 ? -change : change;
    return size != (1 << 20) && size != (2 << 20);
}

/* Memory is asked for, or given back (negative), that may be a chunk of the frames of
 * who runs on m, this thread's M or NULL.  False: it must not have it, since it goes on
 * calling functions although it was stopped.  Not all calls look, in some releases:
 * those of f(*args) in 3.15, those that leave out arguments in 3.13. */
bool
limit_look(M *m, ptrdiff_t change)
{
    G *g = m != NULL ? m->loaded : NULL;
    if (g == NULL || g == m->g0 || current_ts() != m->ts || !may_be_chunk(change)) {
        return true;
    }
    Limits *l = &m->limits;
    size_t max = atomic_load_explicit(&max_stack, memory_order_relaxed) - UNSEEN;
    size_t c = c_depth(m, __builtin_frame_address(0)), most = c < max ? max - c : 0;
    size_t frames = frames_used(m, g, change, most);
    if (l->excess == EXCESS_MOST && change > 0) {
        l->frames -= (size_t)change;
        return false;
    }
    apply(m, g, frames < most ? most - frames : 0, c < l->room ? l->room - c : 0, change <= 0);
    return true;
}

/* ---- for Python ------------------------------------------------------------------------- */

typedef struct {
    G *g;
    size_t bytes;
} Asked;

/* From g's thread or while that cannot run Python. */
static int
find_bytes(PyObject *unused, void *arg)
{
    Asked *a = arg;
    G *g = a->g;
    M *m = g->m;
    (void)unused;
    if (g->status == G_DEAD || !g->started) {
        return 0;
    }
    if (m->loaded != g) {
        a->bytes = g->slice_len + bytes_of_chunks(g->ps.chunk);
        return 0;
    }
    const char *sp = m == tls_m               ? __builtin_frame_address(0)
                     : g->status == G_RUNNING ? m->base /* nobody knows */
                                              : m->sp;
    a->bytes = c_depth(m, sp) + bytes_of_chunks(m->ts->datastack_chunk);
    return 0; /* see no other object */
}

PyObject *
g_stack_bytes(G *g, void *unused)
{
    Asked a = {.g = g};
    (void)unused;
#ifdef Py_GIL_DISABLED
    if (g->m != tls_m) {
        PyUnstable_GC_VisitObjects(find_bytes, &a); /* calls it once, with all threads stopped */
        return PyLong_FromSize_t(a.bytes);
    }
#endif
    find_bytes(NULL, &a);
    return PyLong_FromSize_t(a.bytes);
}

static PyObject *
rt_set_max_stack(PyObject *mod, PyObject *arg)
{
    (void)mod;
    Py_ssize_t n = PyNumber_AsSsize_t(arg, NULL); /* more than there can be is as good */
    if (n == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (n < (Py_ssize_t)MAX_LEAST) {
        return PyErr_Format(PyExc_ValueError, "set_max_stack: at least %zu bytes, not %S",
                            MAX_LEAST, arg);
    }
    size_t old = atomic_exchange(&max_stack, (size_t)n);
    LOCK_MS();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m->base != NULL) {
            limits_set(m);
        }
    }
    UNLOCK_MS();
    return PyLong_FromSize_t(old);
}

#if PY_VERSION_HEX < 0x030C0000

static PyObject *set_recursion_limit; /* CPython's */

/* CPython reckons a thread's depth from its counter, which a goroutine's maximum has made
 * less: have it see the counters without that. */
static PyObject *
rt_setrecursionlimit(PyObject *mod, PyObject *arg)
{
    (void)mod;
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m->loaded != NULL) {
            m->ts->recursion_remaining +=
                m->ts->recursion_limit - pystate_most(m->ts, &m->loaded->ps);
        }
    }
    PyObject *r = PyObject_CallOneArg(set_recursion_limit, arg);
    for (M *m = sched.ms; m != NULL; m = m->next) {
        if (m->loaded != NULL) {
            m->ts->recursion_remaining -=
                m->ts->recursion_limit - pystate_most(m->ts, &m->loaded->ps);
        }
    }
    return r;
}

static PyMethodDef setrecursionlimit_def = {
    "setrecursionlimit", rt_setrecursionlimit, METH_O,
    PyDoc_STR("setrecursionlimit($module, limit, /)\n--\n\n"
              "Set the maximum depth of the Python interpreter stack to n.\n\n"
              "As CPython's own, which it calls; goroutines keep to runtime.set_max_stack too.")};

static int
replace_setrecursionlimit(void)
{
    PyObject *fn = PyCFunction_New(&setrecursionlimit_def, NULL);
    set_recursion_limit = Py_XNewRef(PySys_GetObject("setrecursionlimit"));
    int r =
        fn == NULL || set_recursion_limit == NULL ? 0 : PySys_SetObject("setrecursionlimit", fn);
    Py_XDECREF(fn);
    return fn == NULL ? -1 : r;
}

#else

static int
replace_setrecursionlimit(void)
{
    return 0;
}

#endif

static PyMethodDef functions[] = {
    {"set_max_stack", rt_set_max_stack, METH_O,
     PyDoc_STR(
         "set_max_stack(n, /)\n--\n\n"
         "Set how many bytes the stack of a goroutine may take; return the maximum before.\n\n"
         "256 KiB at first, for its C stack and its Python frames together. Deeper is a\n"
         "RecursionError in that goroutine. It counts for those that start from now on;\n"
         "others may keep to the old one. Main and plain threads have CPython's limits.\n"
         "Whatever it is, what the thread's stack has is the end, and\n"
         "sys.setrecursionlimit's counts too. Go: debug.SetMaxStack.\n\n"
         "Raises TypeError if n is no int, ValueError if it is less than 64 KiB.")},
    {NULL, NULL, 0, NULL},
};

int
limit_add_functions(PyObject *mod)
{
    return replace_setrecursionlimit() < 0 ? -1 : PyModule_AddFunctions(mod, functions);
}
