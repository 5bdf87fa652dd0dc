/* SPDX-License-Identifier: MIT
 *
 * module.c: the functions and the set-up of goroutines._runtime.  Nothing clever.
 */
#include "runtime.h"
#include "malloc.h"

/* ---- arguments -------------------------------------------------------------------- */

PyObject *
callable_arg(const char *who, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1) {
        PyErr_Format(PyExc_TypeError, "%s() needs a function to call", who);
        return NULL;
    }
    if (!PyCallable_Check(args[0])) {
        PyErr_Format(PyExc_TypeError, "%s: %R (%.100s) is not callable%s", who, args[0],
                     Py_TYPE(args[0])->tp_name,
                     args[0] == Py_None ? "; was the function called instead of given?" : "");
        return NULL;
    }
    return args[0];
}

/* 0, or -1 with RuntimeError once the interpreter shuts down. */
int
may_start(PyObject *fn)
{
    if (UNLIKELY(sched.finalizing)) {
        PyErr_Format(PyExc_RuntimeError,
                     "cannot start a goroutine for %R: the interpreter is shutting down", fn);
        return -1;
    }
    return 0;
}

/* Put a call's arguments, positional or by name, into out[], which is as long as
 * `names` (ended by NULL); NULL stands for what was not given.  The first
 * `required` must be.  0, or -1 with TypeError. */
int
named_args(const char *who, const char *const *names, Py_ssize_t required, PyObject *const *args,
           Py_ssize_t nargs, PyObject *kwnames, PyObject **out)
{
    Py_ssize_t most = 0;
    for (; names[most] != NULL; most++) {
        out[most] = most < nargs ? args[most] : NULL;
    }
    if (nargs > most) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments, got %zd", who, most,
                     nargs);
        return -1;
    }
    for (Py_ssize_t k = 0; kwnames != NULL && k < PyTuple_GET_SIZE(kwnames); k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        Py_ssize_t i = 0;
        while (i < most && PyUnicode_CompareWithASCIIString(name, names[i]) != 0) {
            i++;
        }
        if (i == most || out[i] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         i == most ? "%s() got an unexpected keyword argument %R"
                                   : "%s() got two values for %R",
                         who, name);
            return -1;
        }
        out[i] = args[nargs + k];
    }
    for (Py_ssize_t i = 0; i < required; i++) {
        if (out[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() needs the argument '%s'", who, names[i]);
            return -1;
        }
    }
    return 0;
}

/* The arguments of a method that takes (timeout=None). */
int
timeout_only(const char *who, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
             int64_t *ns)
{
    static const char *const names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    if (LIKELY(nargs == 0 && kwnames == NULL)) {
        *ns = -1;
        return 0;
    }
    if (named_args(who, names, 0, args, nargs, kwnames, &timeout) < 0) {
        return -1;
    }
    return timeout_arg(timeout, ns);
}

/* ---- types ------------------------------------------------------------------------ */

/* Of objects that own nothing and may have weak references. */
void
plain_dealloc(PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    PyObject_ClearWeakRefs(o);
    type->tp_free(o);
    Py_DECREF(type);
}

/* Make a type and its name in the module; NULL with an exception. */
PyTypeObject *
add_type(PyObject *mod, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(mod, spec, NULL);
    if (type != NULL && PyModule_AddObjectRef(mod, strrchr(spec->name, '.') + 1, type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

/* ---- goroutines --------------------------------------------------------------------- */

static PyObject *
rt_go(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    PyObject *fn = callable_arg("go", args, nargs);
    (void)mod;
    if (m == NULL || fn == NULL || may_start(fn) < 0) {
        return NULL;
    }
    G *g = g_new(m, fn, args + 1, nargs - 1, kwnames);
    if (g != NULL) {
        g_start(m, g);
    }
    return (PyObject *)g;
}

static PyObject *
rt_run(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    PyObject *fn = callable_arg("run", args, nargs);
    (void)mod;
    return m == NULL || fn == NULL ? NULL : run_main(m, fn, args + 1, nargs - 1, kwnames);
}

static PyObject *
rt_blocking(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    M *m = getm();
    PyObject *fn = callable_arg("blocking", args, nargs);
    (void)mod;
    return m == NULL || fn == NULL ? NULL : blocking_call(m, fn, args + 1, nargs - 1, kwnames);
}

static PyObject *
rt_gosched(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (UNLIKELY(m == NULL) || gosched(m) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
rt_sleep(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t ns;
    M *m = getm();
    (void)mod;
    Py_ssize_t nkw = kwnames != NULL ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs + nkw != 1 || (nkw == 1 && PyUnicode_CompareWithASCIIString(
                                             PyTuple_GET_ITEM(kwnames, 0), "seconds") != 0)) {
        PyErr_SetString(PyExc_TypeError, "sleep(seconds) takes exactly one argument");
        return NULL;
    }
    if (m == NULL || seconds_arg(args[0], "sleep: seconds", &ns) < 0 || sleep_ns(m, ns) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
rt_wait_all_blocked(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL || wait_quiet(m) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
rt_current(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    return m == NULL ? NULL : Py_NewRef((PyObject *)current_g(m));
}

static PyObject *
rt_note_patched(PyObject *mod, PyObject *args)
{
    int vars_apart, loops_park;
    PyObject *set_running_loop;
    (void)mod;
    if (!PyArg_ParseTuple(args, "ppO:_note_patched", &vars_apart, &loops_park, &set_running_loop)) {
        return NULL;
    }
    sched.vars_apart = vars_apart;
    sched.loops_park = loops_park;
    Py_XSETREF(sched.set_running_loop, Py_NewRef(set_running_loop));
    Py_RETURN_NONE;
}

static PyObject *
rt_note_trace(PyObject *mod, PyObject *args)
{
    int on;
    PyObject *begin;
    (void)mod;
    if (!PyArg_ParseTuple(args, "pO:_note_trace", &on, &begin)) {
        return NULL;
    }
    Py_XSETREF(sched.begin_trace, Py_NewRef(begin));
    sched.traced = on;
    Py_RETURN_NONE;
}

/* For 3.11 and 3.12, called when asyncio was told of a running loop (None: of none). */
static PyObject *
rt_note_loop(PyObject *mod, PyObject *loop)
{
    M *m = getm();
    (void)mod;
    if (m == NULL) {
        return NULL;
    }
    ThreadVars *vars = current_g(m)->ps.vars;
    Py_XSETREF(vars->loop, loop != Py_None ? Py_NewRef(loop) : NULL);
    m->told_loop = vars->loop;
    Py_RETURN_NONE;
}

static PyObject *
rt_start_system(PyObject *mod, PyObject *fn)
{
    M *m = getm();
    (void)mod;
    if (m == NULL) {
        return NULL;
    }
    start_system(m, fn);
    Py_RETURN_NONE;
}

static PyObject *
rt_is_main(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    return m == NULL ? NULL : PyBool_FromLong(!m->is_main || current_g(m) == sched.maing);
}

static PyObject *
rt_preempt(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    M *m = getm();
    (void)mod;
    (void)args;
    (void)nargs;
    if (m == NULL) {
        return NULL;
    }
    gopreempt(m);
    Py_RETURN_NONE;
}

/* What threading.get_ident is for a goroutine: a thread's own has the thread's. */
static PyObject *
rt_get_ident(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    if (m->curg == NULL || m->curg->thread_main || m->curg->system) {
        return PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    }
    return PyLong_FromVoidPtr(m->curg);
}

static PyObject *
rt_num_goroutine(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    return PyLong_FromLongLong((long long)atomic_load(&sched.ngoroutines) + 1); /* and main */
}

static PyObject *
rt_goroutines(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    return all_goroutines();
}

/* Go's Goexit of the main goroutine: the others go on, main never does. */
static PyObject *
wait_as_exited_main(M *m)
{
    G *g = m->curg;
    if (park_check(m, g) == 0) {
        g_will_wait(g);
        gopark(m, g, -1, WAIT_GOEXIT);
        raise_pending(g);
    }
    return NULL;
}

static PyObject *
rt_goexit(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    if (m->curg != NULL && (m->curg == sched.maing || (m->curg->thread_main && m->curg->run))) {
        return wait_as_exited_main(m);
    }
    PyErr_SetNone(sched.goroutine_exit);
    return NULL;
}

static PyObject *
rt_set_max_threads(PyObject *mod, PyObject *arg)
{
    (void)mod;
    if (!PyLong_Check(arg)) {
        PyErr_Format(PyExc_TypeError, "set_max_threads: expected an int, not %.100s",
                     Py_TYPE(arg)->tp_name);
        return NULL;
    }
    long n = PyLong_AsLong(arg);
    if (n < 1 || n > 100000) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "set_max_threads: %R is not between 1 and 100000", arg);
        return NULL;
    }
    return PyLong_FromLong(blocking_set_max((int)n));
}

/* ---- hooks for the Python side --------------------------------------------------------- */

static PyObject *
rt_set_hooks(PyObject *mod, PyObject *args)
{
    PyObject *uncaught, *deadlock;
    (void)mod;
    if (!PyArg_ParseTuple(args, "OO:_set_hooks", &uncaught, &deadlock)) {
        return NULL;
    }
    Py_XSETREF(sched.uncaught, Py_NewRef(uncaught));
    Py_XSETREF(sched.deadlock, Py_NewRef(deadlock));
    Py_RETURN_NONE;
}

static PyObject *
rt_after_fork(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    threads_after_fork();
    blocking_after_fork();
    native_after_fork();
    procs_after_fork();
    leaks_after_fork();
    if (getm() == NULL) {
        return NULL;
    }
    sysmon_after_fork();
    Py_RETURN_NONE;
}

static PyObject *
rt_shutdown(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    sysmon_stop();
    procs_stop();
    blocking_shutdown();
    threads_shutdown();
    Py_RETURN_NONE;
}

/* Whether a collection is of the oldest generation. */
static bool
is_oldest(PyObject *info)
{
    PyObject *generation = PyDict_GetItemString(info, "generation");
    return generation != NULL && PyLong_AsLong(generation) == 2;
}

/* Whether a collection looks at all objects.  Without a GIL each one does. */
static bool
collects_all(PyObject *info)
{
#ifdef Py_GIL_DISABLED
    (void)info;
    return true;
#else
    return is_oldest(info);
#endif
}

/* In gc.callbacks: no goroutine may leave its stack while the collector's
 * lists, whose heads are in that stack, are in use. */
static PyObject *
rt_gc_event(PyObject *mod, PyObject *args)
{
    const char *phase;
    PyObject *info;
    (void)mod;
    if (!PyArg_ParseTuple(args, "sO!:_gc_event", &phase, &PyDict_Type, &info)) {
        return NULL;
    }
    bool start = strcmp(phase, "start") == 0;
    if (tls_m != NULL) {
        tls_m->in_gc = start;
    }
    if (start) {
        atomic_fetch_add_explicit(&sched.ncollections, 1, memory_order_relaxed);
    }
    mem_note_collection(start);
    if (collects_all(info)) {
        if (start) {
            cache_full_collection(); /* its destructors must not wait: in_gc is set */
        }
        else {
            mem_trim();
        }
    }
    if (!start && tls_m != NULL) {
        leaks_after_collection(tls_m, is_oldest(info));
    }
    Py_RETURN_NONE;
}

/* What tests and tools read: counters that have no public name. */
static PyObject *
rt_debug_stats(PyObject *mod, PyObject *unused)
{
    M *m = getm();
    (void)mod;
    (void)unused;
    if (m == NULL) {
        return NULL;
    }
    G *g = current_g(m);
    return Py_BuildValue("{s:K,s:n,s:n,s:n,s:n,s:i,s:i}", "switches",
                         (unsigned long long)m->nswitch, "timers",
                         (Py_ssize_t)atomic_load(&sched.ntimers), "heap", m->timers.n, "blocking",
                         (Py_ssize_t)atomic_load(&sched.nblocking), "goroutine_size",
                         (Py_ssize_t)sizeof(G), "slice", (int)g->slice_len, "torture",
#ifdef GOROUTINES_TORTURE
                         1
#else
                         0
#endif
    );
}

static PyObject *
rt_debug_throw(PyObject *mod, PyObject *what)
{
    (void)mod;
    const char *text = PyUnicode_AsUTF8(what);
    if (text == NULL) {
        return NULL;
    }
    throw_(text);
}

#define FN(name, fn, flags, doc) {name, (PyCFunction)(void (*)(void))fn, flags, PyDoc_STR(doc)}

static PyMethodDef functions[] = {
    FN("go", rt_go, FASTKW,
       "go(fn, /, *args, **kwargs)\n--\n\n"
       "Start fn(*args, **kwargs) in a new goroutine and return its Goroutine at once.\n\n"
       "A copy of the caller's contextvars context goes along.  Works in any goroutine and\n"
       "any thread, and as a decorator.  Raises TypeError if fn is not callable."),
    FN("run", rt_run, FASTKW,
       "run(main, /, *args, **kwargs)\n--\n\n"
       "Call main(*args, **kwargs) as a main goroutine and return what it returns.\n\n"
       "Goroutines started under it that are alive when it returns are ended with\n"
       "GoroutineExit, so that their cleanup runs; those not yet begun never begin.\n"
       "Raises what main raises, Panic for a goroutine's uncaught exception, and\n"
       "RuntimeError when nested or called from a goroutine."),
    FN("blocking", rt_blocking, FASTKW,
       "blocking(fn, /, *args, **kwargs)\n--\n\n"
       "Run fn(*args, **kwargs), which would block its thread, in a pool of threads, and\n"
       "park the goroutine meanwhile.  Returns or raises what fn does.  The caller's\n"
       "contextvars go along; runtime.set_max_threads caps the pool."),
    FN("gosched", rt_gosched, METH_NOARGS,
       "gosched()\n--\n\nLet the other goroutines of this thread run first (runtime.Gosched)."),
    FN("sleep", rt_sleep, FASTKW,
       "sleep(seconds)\n--\n\n"
       "Park this goroutine for at least so many seconds.  A negative number counts as 0,\n"
       "which lets the others run.  Raises ValueError for NaN, TypeError for no number."),
    FN("current", rt_current, METH_NOARGS,
       "current()\n--\n\nThe running Goroutine; in a plain thread, the object of that thread."),
    FN("num_goroutine", rt_num_goroutine, METH_NOARGS,
       "num_goroutine()\n--\n\nHow many goroutines there are, main included."),
    FN("goroutines", rt_goroutines, METH_NOARGS,
       "goroutines()\n--\n\nA list of main and all goroutines that have not ended."),
    FN("goexit", rt_goexit, METH_NOARGS,
       "goexit()\n--\n\n"
       "End this goroutine: GoroutineExit is raised, so its cleanup runs.  In main the\n"
       "others go on, and when they have ended it is a Deadlock (runtime.Goexit)."),
    FN("set_max_threads", rt_set_max_threads, METH_O,
       "set_max_threads(n, /)\n--\n\n"
       "Cap the threads that blocking() uses; returns the old cap.  Raises ValueError\n"
       "unless 1 <= n <= 100000."),
    FN("_blocking_stats", blocking_stats, METH_NOARGS, "runtime.blocking_stats"),
    FN("_wait_all_blocked", rt_wait_all_blocked, METH_NOARGS, "testing.wait_all_blocked"),
    FN("_note_patched", rt_note_patched, METH_VARARGS,
       "_note_patched(vars_apart, loops_park, set_running_loop): what patch() has done."),
    FN("_note_trace", rt_note_trace, METH_VARARGS,
       "_note_trace(on, begin): whether to call begin() in new goroutines."),
    FN("_note_loop", rt_note_loop, METH_O, "_note_loop(loop): this goroutine's event loop runs."),
    FN("_start_system", rt_start_system, METH_O,
       "_start_system(fn): in a goroutine whose exceptions are main's."),
    FN("_is_main", rt_is_main, METH_NOARGS, "Does the main goroutine run, or its thread no other?"),
    FN("_preempt", rt_preempt, METH_FASTCALL, "_preempt(signum, frame): let the others run."),
    FN("_get_ident", rt_get_ident, METH_NOARGS, "threading.get_ident, by goroutine."),
    FN("_set_hooks", rt_set_hooks, METH_VARARGS, "_set_hooks(uncaught, deadlock)"),
    FN("_set_future_hooks", future_set_hooks, METH_VARARGS,
       "_set_future_hooks(Future, CancelledError, InvalidStateError, callback_failed)"),
    FN("_set_pool_full", pool_set_full, METH_O, "_set_pool_full(PoolFull)"),
    FN("_set_away_hook", pool_set_away_hook, METH_O, "_set_away_hook(start): _away.py's"),
    FN("_go_where_it_runs", pool_go_where_it_runs, METH_O, "_go_where_it_runs(fn): for Group"),
    FN("_after_fork", rt_after_fork, METH_NOARGS, "For os.register_at_fork, in the child."),
    FN("_shutdown", rt_shutdown, METH_NOARGS, "For atexit."),
    FN("_gc_event", rt_gc_event, METH_VARARGS, "For gc.callbacks."),
    FN("_debug_stats", rt_debug_stats, METH_NOARGS, "Counters of this thread, for tests."),
    FN("_debug_throw", rt_debug_throw, METH_O, "End the process as a broken invariant does."),
    {NULL, NULL, 0, NULL},
};

/* ---- set-up -------------------------------------------------------------------------------- */

/* CPython's own lists get our classes; they live as long as the process. */
static int
import_errors(void)
{
    PyObject *mod = PyImport_ImportModule("goroutines.errors");
    if (mod == NULL) {
        return -1;
    }
    sched.goroutine_exit = PyObject_GetAttrString(mod, "GoroutineExit");
    sched.channel_closed = PyObject_GetAttrString(mod, "ChannelClosed");
    sched.panic = PyObject_GetAttrString(mod, "Panic");
    Py_DECREF(mod);
    return sched.goroutine_exit && sched.channel_closed && sched.panic ? 0 : -1;
}

static int
module_exec(PyObject *mod)
{
    if (g_type != NULL || PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError,
                        "goroutines._runtime can be loaded once, in the main interpreter");
        return -1;
    }
    if (mem_init() < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (import_errors() < 0 || goroutine_add_type(mod) < 0 || chan_add_types(mod) < 0 ||
        ends_add_types(mod) < 0 || select_add_types(mod) < 0 || sema_add_types(mod) < 0 ||
        mutex_add_types(mod) < 0 || semaphore_add_types(mod) < 0 || cond_add_types(mod) < 0 ||
        once_add_types(mod) < 0 || atomic_add_types(mod) < 0 || cache_add_types(mod) < 0 ||
        timer_add_types(mod) < 0 || scope_add_types(mod) < 0 || future_add_types(mod) < 0 ||
        pool_add_types(mod) < 0 || netpoll_add_functions(mod) < 0 || procs_add_functions(mod) < 0 ||
        sysmon_add_functions(mod) < 0 || leak_add_functions(mod) < 0 ||
        socket_add_functions(mod) < 0 || lock_add_types(mod) < 0 || native_add_functions(mod) < 0 ||
        memory_add_types(mod) < 0 || mem_add_functions(mod) < 0 || limit_add_functions(mod) < 0 ||
        threads_init() < 0) {
        return -1;
    }
    arena_cache_install();
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "goroutines._runtime",
    .m_doc = PyDoc_STR("The core of goroutines; its public names are in the package."),
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__runtime(void)
{
    return PyModuleDef_Init(&module_def);
}
