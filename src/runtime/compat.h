/* SPDX-License-Identifier: MIT
 *
 * compat.h: all that differs between CPython versions, in one place (but for what
 * leak.c asks of frames: frames.h).
 *
 * A switch of goroutines must carry along what CPython keeps in the thread
 * state for the code that runs on it.  PyState is that set; pystate_save,
 * pystate_load and pystate_fresh move it.  The rest of the core knows no
 * version.
 *
 * Fields and where CPython keeps them:
 *   3.11, 3.12   cframe, a pointer into the C stack, heads the frame chain;
 *                3.11 also keeps use_tracing in it (pystate_resumed sets it).
 *   3.13+        current_frame.
 *   3.11         one recursion counter; 3.12 and 3.13 count C recursion apart;
 *                3.14+ check the C stack's addresses, which stay right since
 *                goroutines run on the thread's own stack.  limit.c uses them.
 *   3.12+        the chain of frames runs through "entry frames" in the C
 *                stack, which are gone while the goroutine is parked:
 *                frames_unlink takes them out of the chain (so that f_back,
 *                tracebacks and the dump are safe), frames_relink undoes it.
 *   all          the trace and profile functions.
 *   all          dict: what Py_Repr is inside of, thread locals; these hang on
 *                threading_local_key from 3.13 on.
 *   3.13+        asyncio's running loop; 3.14+ its current task too.  Before, the
 *                loop is in the dict, and in a cache that proc.c corrects.
 *   3.14t+       frames may hold deferred (uncounted) references, which the
 *                collector finds only on the stacks of running threads:
 *                frames_strengthen turns them into counted ones.
 */
#ifndef GOROUTINES_COMPAT_H
#define GOROUTINES_COMPAT_H

#if PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x03100000
#error "goroutines supports CPython 3.11 to 3.15"
#endif

/* Python's internal headers define a few things that ours must not see. */
#include "internal/pycore_frame.h"
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_interpframe.h"
#include "internal/pycore_stackref.h"
#endif
#if PY_VERSION_HEX >= 0x030D0000
#include "internal/pycore_ceval.h"
#include "internal/pycore_critical_section.h"
#endif
#include "internal/pycore_context.h"
#include "internal/pycore_hamt.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_pystate.h"
#include "internal/pycore_runtime.h"
#if PY_VERSION_HEX >= 0x030D0000
#include "internal/pycore_tstate.h"
#endif

/* initial-exec thread locals are one load; musl cannot dlopen such a library. */
#if defined(__linux__) && defined(__GLIBC__)
#define TLS_MODEL __attribute__((tls_model("initial-exec")))
#else
#define TLS_MODEL
#endif

typedef struct _PyInterpreterFrame PyFrameData;

/* What code thinks of as its thread's own.  Goroutines have it in common with
 * their thread, or, once `threading` is patched, each its own.  Owned. */
typedef struct {
    PyObject *dict;
    PyObject *key, *sentinel; /* 3.13+: of threading.local */
    PyObject *loop; /* asyncio's running loop; before 3.13 told by the patch */
    PyObject *task; /* 3.14+: asyncio's current task */
    Py_tracefunc trace, profile;
    PyObject *trace_obj, *profile_obj;
} ThreadVars;

typedef struct {
#if PY_VERSION_HEX < 0x030D0000
    _PyCFrame *cframe;
#endif
    ThreadVars *vars; /* the thread's, or its own, allocated */
    PyFrameData *frame; /* the innermost Python frame */
    PyFrameData *entry; /* 3.12+: list of entry frames taken out of the chain */
    _PyStackChunk *chunk;
    PyObject **top, **limit;
    _PyErr_StackItem *exc_info;
    _PyErr_StackItem exc_state;
#if PY_VERSION_HEX < 0x030C0000
    PyObject *exc_type, *exc_value, *exc_tb;
#else
    PyObject *exc;
#endif
    PyObject *context; /* owned */
    PyObject *trash;
    int depth; /* Python frames (3.11: and C calls) in use */
#if PY_VERSION_HEX < 0x030C0000
    int most; /* how great depth may become, beside CPython's own limit */
#endif
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
    int c_left;
#endif
#if PY_VERSION_HEX < 0x030D0000
    int trash_nesting;
#endif
    int headroom;
    int tracing;
    int what;
#if PY_VERSION_HEX >= 0x030E0000
    PyObject *executor;
#endif
#ifdef Py_GIL_DISABLED
    uintptr_t critical_section;
#if PY_VERSION_HEX >= 0x030E0000
    struct _PyCStackRef *c_stack_refs;
#endif
#endif
} PyState;

/* ---- small API differences ------------------------------------------------ */

/* What a weak reference refers to, a new reference; NULL once it is gone. */
static inline PyObject *
weakref_target(PyObject *ref)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *o = NULL;
    return PyWeakref_GetRef(ref, &o) < 0 ? NULL : o;
#else
    PyObject *o = PyWeakref_GET_OBJECT(ref);
    return o == Py_None ? NULL : Py_NewRef(o);
#endif
}

/* ---- small readers -------------------------------------------------------- */

static inline PyFrameData *
pystate_current_frame(PyThreadState *ts)
{
#if PY_VERSION_HEX < 0x030D0000
    return ts->cframe->current_frame;
#else
    return ts->current_frame;
#endif
}

/* A frame in the C stack that belongs to the evaluation loop, not to code. */
static inline bool
frame_is_entry(PyFrameData *f)
{
#if PY_VERSION_HEX < 0x030C0000
    (void)f;
    return false;
#else
    return f->owner >= 3; /* FRAME_OWNED_BY_CSTACK, later _INTERPRETER */
#endif
}

static inline PyCodeObject *
frame_code(PyFrameData *f)
{
#if PY_VERSION_HEX < 0x030D0000
    return f->f_code;
#else
    return _PyFrame_GetCode(f);
#endif
}

static inline int
frame_lasti(PyFrameData *f)
{
    return _PyInterpreterFrame_LASTI(f) * (int)sizeof(_Py_CODEUNIT);
}

/* Signal handlers are waiting to be run by the main thread. */
static inline bool
signals_pending(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030D0000
    return (*(volatile uintptr_t *)&ts->eval_breaker & _PY_SIGNALS_PENDING_BIT) != 0;
#else
    (void)ts;
    return *(volatile int *)&_PyRuntime.ceval.signals_pending != 0;
#endif
}

/* Have the main thread run the handler of `signum`, as if the signal had come;
 * from any thread, also one that is not Python's. */
static inline void
trip_signal(int signum)
{
    PyErr_SetInterruptEx(signum);
#if PY_VERSION_HEX < 0x030D0000
    /* It asks whether the calling thread may handle signals, and then does nothing more. */
    _Py_atomic_store_relaxed(&PyInterpreterState_Main()->ceval.eval_breaker, 1);
#endif
}

#if PY_VERSION_HEX >= 0x030C0000
#if PY_VERSION_HEX < 0x030D0000
#define PENDING_SLOTS NPENDINGCALLS
#define PENDING_LOCK(p) PyThread_acquire_lock((p)->lock, WAIT_LOCK)
#define PENDING_UNLOCK(p) PyThread_release_lock((p)->lock)
#define PENDING_END(p) ((p)->last)
#else
#define PENDING_SLOTS PENDINGCALLSARRAYSIZE
#define PENDING_LOCK(p) PyMutex_Lock(&(p)->mutex)
#define PENDING_UNLOCK(p) PyMutex_Unlock(&(p)->mutex)
#define PENDING_END(p) ((p)->next)
#endif

/* Put fn into the interpreter's queue of calls, which is what only CPython itself
 * does: Py_AddPendingCall is for the main thread. */
static inline bool
pending_push(struct _pending_calls *p, int (*fn)(void *))
{
    PENDING_LOCK(p);
    int at = PENDING_END(p), next = (at + 1) % PENDING_SLOTS;
    bool room = next != p->first;
#if PY_VERSION_HEX >= 0x030D0000
    room = room && p->npending < p->max;
#endif
    if (room) {
        p->calls[at].func = fn;
        p->calls[at].arg = NULL;
        PENDING_END(p) = next;
#if PY_VERSION_HEX >= 0x030D0000
        p->calls[at].flags = 0;
        __atomic_store_n(&p->npending, p->npending + 1, __ATOMIC_RELAXED);
#endif
    }
    PENDING_UNLOCK(p);
    return room;
}

/* Have the thread of ts call fn between two bytecodes; from any thread.  False:
 * not now.  Another thread may take the call; fn finds out. */
static inline bool
call_soon(PyThreadState *ts, bool is_main, int (*fn)(void *))
{
    if (is_main) {
        bool ok = Py_AddPendingCall(fn, NULL) == 0;
#if PY_VERSION_HEX < 0x030D0000
        /* It asks whether the calling thread may run them, and then does nothing more. */
        _Py_atomic_store_relaxed(&ts->interp->ceval.eval_breaker, 1);
#endif
        return ok;
    }
    struct _ceval_state *ceval = &ts->interp->ceval;
    if (!pending_push(&ceval->pending, fn)) {
        return false;
    }
#if PY_VERSION_HEX < 0x030D0000
    _Py_atomic_store_relaxed(&ceval->pending.calls_to_do, 1);
    _Py_atomic_store_relaxed(&ceval->eval_breaker, 1);
#else
    _Py_atomic_or_uintptr(&ts->eval_breaker, _PY_CALLS_TO_DO_BIT);
#endif
    return true;
}

/* Within a call: CPython lets only one thread at a time be in one, which this
 * one leaves although it does not return yet. */
static inline void
call_soon_is_over(PyThreadState *ts)
{
    struct _pending_calls *p = &ts->interp->ceval.pending;
    PENDING_LOCK(p);
#if PY_VERSION_HEX < 0x030D0000
    p->busy = 0;
#else
    if (p->handling_thread == ts) {
        p->handling_thread = NULL;
    }
#endif
    PENDING_UNLOCK(p);
}

#else
#define call_soon_is_over(ts) ((void)(ts)) /* 3.11 uses trip_signal */
#endif

#ifdef Py_GIL_DISABLED
/* In a forked child.  Another thread may have been about to stop the world: CPython lets
 * it wait for the fork with this lock in its hands, and does not free it. */
static inline void
free_stop_lock(PyInterpreterState *interp)
{
    memset(&interp->stoptheworld.mutex, 0, sizeof(interp->stoptheworld.mutex));
}

/* Ask the thread of ts for a sign of life: it does what this bit of its own stands for
 * (nothing, if no object is queued) between two bytecodes, and takes the bit away. */
static inline void
ping(PyThreadState *ts)
{
    _Py_atomic_or_uintptr(&ts->eval_breaker, _PY_EVAL_EXPLICIT_MERGE_BIT);
}

static inline bool
has_answered(PyThreadState *ts)
{
    return (_Py_atomic_load_uintptr(&ts->eval_breaker) & _PY_EVAL_EXPLICIT_MERGE_BIT) == 0;
}
#endif

/* Whether the thread of ts is in code that could use Python, and so will come back to
 * it by itself: a guess, from any thread. */
static inline bool
holds_gil(PyThreadState *ts)
{
#ifdef Py_GIL_DISABLED
    return _Py_atomic_load_int_relaxed(&ts->state) == _Py_THREAD_ATTACHED;
#elif PY_VERSION_HEX < 0x030C0000
    return (void *)_Py_atomic_load_relaxed(&_PyRuntime.gilstate.tstate_current) == ts;
#elif PY_VERSION_HEX < 0x030D0000
    return ts->_status.active;
#else
    return *(volatile int *)&ts->state == _Py_THREAD_ATTACHED;
#endif
}

/* Whether the thread of ts would run if another one let go of the GIL, or went on
 * with the world: a guess, from any thread. */
static inline bool
is_held_up(PyThreadState *ts)
{
#ifdef Py_GIL_DISABLED
    /* A thread that is attached meanwhile is the one that the others wait for. */
    const struct _stoptheworld_state *stw = &ts->interp->stoptheworld;
    bool stops = *(const volatile bool *)&stw->requested;
    return (stops || *(const volatile bool *)&stw->world_stopped) && !holds_gil(ts);
#else
#if PY_VERSION_HEX < 0x030C0000
    struct _gil_runtime_state *gil = &_PyRuntime.ceval.gil;
#else
    struct _gil_runtime_state *gil = ts->interp->ceval.gil;
#endif
#if PY_VERSION_HEX < 0x030D0000
    uintptr_t holder = _Py_atomic_load_relaxed(&gil->last_holder);
    bool locked = _Py_atomic_load_relaxed(&gil->locked) != 0;
#else
    uintptr_t holder = (uintptr_t)*(PyThreadState *volatile *)&gil->last_holder;
    bool locked = *(volatile int *)&gil->locked != 0;
#endif
    return locked && holder != (uintptr_t)ts;
#endif
}

/* Beside the thread of ts. */
static inline bool
has_other_threads(PyThreadState *ts)
{
    return ts->next != NULL || ts->prev != NULL;
}

/* The thread state that this thread has Python with, or NULL. */
static inline PyThreadState *
current_ts(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

static inline bool
interpreter_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
}

static inline bool
context_is_empty(PyObject *ctx)
{
    return ctx == NULL || ((PyContext *)ctx)->ctx_vars->h_count == 0;
}

/* ---- frames of a parked goroutine ------------------------------------------- */

#if PY_VERSION_HEX >= 0x030C0000
/* While out of the chain an entry frame is linked through two fields that
 * CPython leaves unused in it: f_globals -> the next one, f_builtins -> the
 * frame whose `previous` it was.  Entry frames at or above `base` are not
 * copied away, so the chain may keep them. */
static inline PyFrameData *
frames_unlink(PyFrameData *f, char *base)
{
    char *sp = __builtin_frame_address(0);
    PyFrameData *list = NULL;
    while (f != NULL) {
        PyFrameData *back = f->previous;
        if ((char *)back >= base && frame_is_entry(back)) {
            break;
        }
        if (back == NULL || (char *)back < sp || !frame_is_entry(back)) {
            f = back;
            continue;
        }
        back->f_globals = (PyObject *)list;
        back->f_builtins = (PyObject *)f;
        list = back;
        f->previous = back->previous;
    }
    return list;
}

/* The list runs from the outermost entry frame inwards: the reverse order. */
static inline void
frames_relink(PyFrameData *entry)
{
    while (entry != NULL) {
        PyFrameData *next = (PyFrameData *)entry->f_globals;
        ((PyFrameData *)entry->f_builtins)->previous = entry;
        entry = next;
    }
}
#endif

#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
static inline void
stackref_strengthen(_PyStackRef *r)
{
    if (PyStackRef_IsNull(*r) || PyStackRef_IsTaggedInt(*r) || !PyStackRef_IsDeferred(*r)) {
        return;
    }
    PyObject *o = PyStackRef_AsPyObjectBorrow(*r);
    if (!_Py_IsImmortal(o)) {
        *r = PyStackRef_FromPyObjectSteal(Py_NewRef(o));
    }
}

static inline void
frames_strengthen(_PyThreadStateImpl *ts)
{
    for (PyFrameData *f = ts->base.current_frame; f != NULL; f = f->previous) {
        if (frame_is_entry(f)) {
            continue;
        }
        stackref_strengthen(&f->f_funcobj);
        stackref_strengthen(&f->f_executable);
        if (f->stackpointer != NULL) {
            for (_PyStackRef *r = f->localsplus; r < f->stackpointer; r++) {
                stackref_strengthen(r);
            }
        }
    }
    for (_PyCStackRef *r = ts->c_stack_refs; r != NULL; r = r->next) {
        stackref_strengthen(&r->ref);
    }
}
#endif

/* ---- limits: limit.c's -------------------------------------------------------- */

#if PY_VERSION_HEX < 0x030C0000

static inline int
pystate_most(PyThreadState *ts, const PyState *p)
{
    return p->most < ts->recursion_limit ? p->most : ts->recursion_limit;
}

/* p, which ts holds, may go at most `count` calls deeper than it is. */
static inline void
pystate_allow(PyThreadState *ts, PyState *p, int count)
{
    int depth = pystate_most(ts, p) - ts->recursion_remaining;
    p->most = count < INT_MAX - depth ? depth + count : INT_MAX;
    ts->recursion_remaining = pystate_most(ts, p) - depth;
}

#else

/* While `stop`, each call of a Python function is a RecursionError.  *held is what
 * was left of CPython's own limit. */
static inline void
pystate_stop_calls(PyThreadState *ts, int *held, bool stop)
{
    if (stop && *held == 0 && ts->py_recursion_remaining > 0) {
        *held = ts->py_recursion_remaining;
        ts->py_recursion_remaining = 0;
    }
    else if (!stop) {
        ts->py_recursion_remaining += *held;
        *held = 0;
    }
}

#endif

#ifdef CACHED_CHUNK
/* CPython frees a chunk through the arena allocator, but for one that it keeps if it has none:
 * see that it has one, so that the allocator hears when the chunk given out last is left. */
static inline void
watch_last_chunk(PyThreadState *ts, _PyStackChunk *nobodys)
{
    if (ts->datastack_cached_chunk == NULL) {
        ts->datastack_cached_chunk = nobodys;
    }
}
#else
#define watch_last_chunk(ts, nobodys) ((void)(ts), (void)(nobodys))
#endif

#if PY_VERSION_HEX >= 0x030E0000
/* The address below which C recursion is a RecursionError. */
static inline uintptr_t
pystate_c_end(PyThreadState *ts)
{
    return ((_PyThreadStateImpl *)ts)->c_stack_soft_limit;
}

static inline void
pystate_set_c_end(PyThreadState *ts, uintptr_t end)
{
    ((_PyThreadStateImpl *)ts)->c_stack_soft_limit = end;
}
#else
#define pystate_set_c_end(ts, end) ((void)0)
#endif

/* ---- save, load, fresh ------------------------------------------------------ */

static inline void
vars_save(PyThreadState *ts, ThreadVars *v)
{
    v->dict = ts->dict;
#if PY_VERSION_HEX >= 0x030D0000
    v->key = ts->threading_local_key;
    v->sentinel = ts->threading_local_sentinel;
    v->loop = ((_PyThreadStateImpl *)ts)->asyncio_running_loop;
#endif
#if PY_VERSION_HEX >= 0x030E0000
    v->task = ((_PyThreadStateImpl *)ts)->asyncio_running_task;
#endif
    v->trace = ts->c_tracefunc;
    v->trace_obj = ts->c_traceobj;
    v->profile = ts->c_profilefunc;
    v->profile_obj = ts->c_profileobj;
}

static inline void
vars_load(PyThreadState *ts, const ThreadVars *v)
{
    ts->dict = v->dict;
#if PY_VERSION_HEX >= 0x030D0000
    ts->threading_local_key = v->key;
    ts->threading_local_sentinel = v->sentinel;
    ((_PyThreadStateImpl *)ts)->asyncio_running_loop = v->loop;
#endif
#if PY_VERSION_HEX >= 0x030E0000
    ((_PyThreadStateImpl *)ts)->asyncio_running_task = v->task;
#endif
    ts->c_tracefunc = v->trace;
    ts->c_traceobj = v->trace_obj;
    ts->c_profilefunc = v->profile;
    ts->c_profileobj = v->profile_obj;
}

/* Not inlined: what it needs of the stack would stand in each parked goroutine's. */
static __attribute__((noinline, unused)) void
vars_exchange(PyThreadState *ts, ThreadVars **now, ThreadVars *to)
{
    vars_save(ts, *now);
    vars_load(ts, to);
    *now = to;
}

/* Have ts hold `to`; *now says which it holds, whose own copy is stale meanwhile. */
static inline void
vars_switch(PyThreadState *ts, ThreadVars **now, ThreadVars *to)
{
    if (__builtin_expect(*now != to, 0)) {
        vars_exchange(ts, now, to);
    }
}

/* Take ts's state into p: the goroutine is about to leave the stack. */
static inline void
pystate_save(PyThreadState *ts, PyState *p, char *base)
{
#ifdef Py_GIL_DISABLED
    p->critical_section = ts->critical_section;
    if (ts->critical_section != 0) {
        _PyCriticalSection_SuspendAll(ts);
        p->critical_section = ts->critical_section;
        ts->critical_section = 0;
    }
#if PY_VERSION_HEX >= 0x030E0000
    frames_strengthen((_PyThreadStateImpl *)ts);
    p->c_stack_refs = ((_PyThreadStateImpl *)ts)->c_stack_refs;
#endif
#endif
#if PY_VERSION_HEX < 0x030D0000
    p->cframe = ts->cframe;
#endif
    p->frame = pystate_current_frame(ts);
#if PY_VERSION_HEX >= 0x030C0000
    p->entry = frames_unlink(p->frame, base);
#endif
    p->chunk = ts->datastack_chunk;
    p->top = ts->datastack_top;
    p->limit = ts->datastack_limit;
    p->exc_info = ts->exc_info;
    p->exc_state = ts->exc_state;
    p->context = ts->context;
    p->headroom = ts->recursion_headroom;
    p->tracing = ts->tracing;
#if PY_VERSION_HEX < 0x030C0000
    p->exc_type = ts->curexc_type;
    p->exc_value = ts->curexc_value;
    p->exc_tb = ts->curexc_traceback;
    p->depth = pystate_most(ts, p) - ts->recursion_remaining;
    p->what = ts->tracing_what;
#else
    p->exc = ts->current_exception;
    p->depth = ts->py_recursion_limit - ts->py_recursion_remaining;
    p->what = ts->what_event;
#endif
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
    p->c_left = ts->c_recursion_remaining;
#endif
#if PY_VERSION_HEX < 0x030C0000
    p->trash = ts->trash_delete_later;
    p->trash_nesting = ts->trash_delete_nesting;
#elif PY_VERSION_HEX < 0x030D0000
    p->trash = ts->trash.delete_later;
    p->trash_nesting = ts->trash.delete_nesting;
#else
    p->trash = ts->delete_later;
#endif
#if PY_VERSION_HEX >= 0x030E0000
    p->executor = ts->current_executor;
#endif
}

/* Put p's state into ts: the goroutine is about to come back. */
static inline void
pystate_load(PyThreadState *ts, PyState *p)
{
#if PY_VERSION_HEX < 0x030D0000
    ts->cframe = p->cframe;
#else
    ts->current_frame = p->frame;
#endif
    ts->datastack_chunk = p->chunk;
    ts->datastack_top = p->top;
    ts->datastack_limit = p->limit;
    ts->exc_info = p->exc_info;
    ts->exc_state = p->exc_state;
    ts->context = p->context;
    p->context = NULL; /* ts owns it now */
    ts->context_ver++;
    ts->recursion_headroom = p->headroom;
    ts->tracing = p->tracing;
#if PY_VERSION_HEX < 0x030C0000
    ts->curexc_type = p->exc_type;
    ts->curexc_value = p->exc_value;
    ts->curexc_traceback = p->exc_tb;
    ts->recursion_remaining = pystate_most(ts, p) - p->depth;
    ts->tracing_what = p->what;
#else
    ts->current_exception = p->exc;
    ts->py_recursion_remaining = ts->py_recursion_limit - p->depth;
    ts->what_event = p->what;
#endif
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
    ts->c_recursion_remaining = p->c_left;
#endif
#if PY_VERSION_HEX < 0x030C0000
    ts->trash_delete_later = p->trash;
    ts->trash_delete_nesting = p->trash_nesting;
#elif PY_VERSION_HEX < 0x030D0000
    ts->trash.delete_later = p->trash;
    ts->trash.delete_nesting = p->trash_nesting;
#else
    ts->delete_later = p->trash;
#endif
#if PY_VERSION_HEX >= 0x030E0000
    ts->current_executor = p->executor;
#endif
#if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    ((_PyThreadStateImpl *)ts)->c_stack_refs = p->c_stack_refs;
#endif
}

/* Give ts the thread's own first chunk back, which CPython will free. */
static inline void
pystate_restore_chunk(PyThreadState *ts, const PyState *thread)
{
    ts->datastack_chunk = thread->chunk;
    ts->datastack_top = thread->top;
    ts->datastack_limit = thread->limit;
}

/* What must wait until the goroutine's slice is back in the stack. */
static inline void
pystate_resumed(PyThreadState *ts, PyState *p)
{
#if PY_VERSION_HEX < 0x030C0000
    ts->cframe->use_tracing =
        (ts->tracing == 0 && (ts->c_tracefunc != NULL || ts->c_profilefunc != NULL)) ? 255 : 0;
#else
    frames_relink(p->entry);
    p->entry = NULL;
#endif
#ifdef Py_GIL_DISABLED
    if (p->critical_section != 0) {
        ts->critical_section = p->critical_section;
        p->critical_section = 0;
        _PyCriticalSection_Resume(ts);
    }
#endif
}

/* Fill p with the state that a goroutine starts in; p->context is set already.  c_left:
 * how often C may recurse (3.11: and Python), where CPython counts that. */
static inline void
pystate_fresh(PyThreadState *ts, PyState *p, _PyStackChunk *chunk, int c_left, ThreadVars *vars)
{
    p->vars = vars;
#if PY_VERSION_HEX < 0x030D0000
#if PY_VERSION_HEX < 0x030C0000
    ts->root_cframe.use_tracing = (ts->c_tracefunc != NULL || ts->c_profilefunc != NULL) ? 255 : 0;
#endif
    p->cframe = &ts->root_cframe; /* its current_frame is always NULL */
    p->frame = NULL;
#elif PY_VERSION_HEX >= 0x030F0000
    p->frame = ts->base_frame;
#else
    p->frame = NULL;
#endif
    p->entry = NULL;
    p->chunk = chunk;
    /* CPython never frees a chunk whose first slot is skipped: ours. */
    p->top = &chunk->data[1];
    p->limit = (PyObject **)((char *)chunk + chunk->size);
    p->exc_info = &ts->exc_state;
    p->exc_state.exc_value = NULL;
    p->exc_state.previous_item = NULL;
    p->trash = NULL;
    p->depth = 0;
    p->headroom = 0;
    p->tracing = 0;
#if PY_VERSION_HEX < 0x030C0000
    p->exc_type = p->exc_value = p->exc_tb = NULL;
    p->what = 0;
    p->most = c_left;
#else
    p->exc = NULL;
    p->what = -1;
#endif
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
    p->c_left = c_left;
#elif PY_VERSION_HEX >= 0x030E0000
    (void)c_left;
#endif
#if PY_VERSION_HEX < 0x030D0000
    p->trash_nesting = 0;
#endif
#if PY_VERSION_HEX >= 0x030E0000
    p->executor = NULL;
#endif
#ifdef Py_GIL_DISABLED
    p->critical_section = 0;
#if PY_VERSION_HEX >= 0x030E0000
    p->c_stack_refs = NULL;
#endif
#endif
}

static inline bool
vars_are_used(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030D0000
    return ts->dict != NULL || ts->threading_local_sentinel != NULL;
#else
    return ts->dict != NULL;
#endif
}

#define VARS_END_ROUNDS 3

/* The goroutine ends that has p: drop what it has of its own in ts, again if
 * destructors bring it back; who does so each time (a debugger's hook that asks
 * which thread this is) leaves it behind, as with a thread of CPython's. */
static inline void
vars_end(PyThreadState *ts, PyState *p, ThreadVars **now, ThreadVars *thread_vars)
{
    if (__builtin_expect(p->vars == thread_vars, 1)) {
        return;
    }
    if (ts->c_tracefunc != NULL) {
        PyEval_SetTrace(NULL, NULL);
    }
    if (ts->c_profilefunc != NULL) {
        PyEval_SetProfile(NULL, NULL);
    }
    for (int round = 0; round < VARS_END_ROUNDS && vars_are_used(ts); round++) {
        Py_CLEAR(ts->dict);
#if PY_VERSION_HEX >= 0x030D0000
        Py_CLEAR(ts->threading_local_key);
        Py_CLEAR(ts->threading_local_sentinel);
#endif
    }
#if PY_VERSION_HEX >= 0x030D0000
    Py_CLEAR(((_PyThreadStateImpl *)ts)->asyncio_running_loop);
#else
    Py_CLEAR(p->vars->loop);
#endif
#if PY_VERSION_HEX >= 0x030E0000
    Py_CLEAR(((_PyThreadStateImpl *)ts)->asyncio_running_task);
#endif
    *now = thread_vars; /* what is left behind is nobody's */
    vars_load(ts, thread_vars);
    free(p->vars);
    p->vars = thread_vars;
}

/* What a thread's own goroutine has in its PyState from the start. */
static inline void
pystate_of_thread(PyState *p, ThreadVars *vars)
{
    p->vars = vars;
#if PY_VERSION_HEX < 0x030C0000
    p->most = INT_MAX;
#endif
}

static inline int
pystate_c_left(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000
    return ts->c_recursion_remaining;
#else
    (void)ts;
    return INT_MAX;
#endif
}

/* The exception being handled further out includes an instance of `type`. */
static inline bool
pystate_handles(PyThreadState *ts, PyObject *type)
{
    for (_PyErr_StackItem *i = ts->exc_info; i != NULL; i = i->previous_item) {
        if (i->exc_value != NULL && i->exc_value != Py_None &&
            PyErr_GivenExceptionMatches(i->exc_value, type)) {
            return true;
        }
    }
    return false;
}

/* PyErr_GetRaisedException and its partner came in 3.12. */
static inline PyObject *
take_raised(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
    }
    Py_XDECREF(type);
    Py_XDECREF(tb);
    return value;
#endif
}

/* Raise exc; its reference is taken over. */
static inline void
set_raised(PyObject *exc)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(exc);
#else
    PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(exc)), exc, PyException_GetTraceback(exc));
#endif
}

#endif
