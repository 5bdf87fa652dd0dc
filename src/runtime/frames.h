/* SPDX-License-Identifier: MIT
 *
 * frames.h: what the frames of a parked goroutine own, by CPython's version.
 *
 * leak.c counts references, so only what a frame owns may be shown, each once:
 *   3.11 to 3.13  the variables, and of the evaluation stack as much as is in use.
 *                 A frame that has called Python code has that written down; one
 *                 that has called C has it in a register, and places.c works it
 *                 out from the code.
 *   3.14+         the stack pointer is always written down.  References may be
 *                 borrowed, which tp_traverse of generators and frames shows too,
 *                 unless it is the collector that asks: visit_with_frame.
 *   all           globals and builtins are borrowed; code objects are no
 *                 containers.
 */
#ifndef GOROUTINES_FRAMES_H
#define GOROUTINES_FRAMES_H

#include "runtime.h"

/* How many slots of localsplus (variables first, then the evaluation stack) are in
 * use; -1: up to 3.13 a frame that calls C keeps this in a register. */
static inline Py_ssize_t
frame_slots(PyFrameData *f)
{
#if PY_VERSION_HEX >= 0x030E0000
    return f->stackpointer != NULL ? f->stackpointer - f->localsplus : -1;
#else
    return f->stacktop;
#endif
}

#if PY_VERSION_HEX >= 0x030E0000
/* The object that a reference in a frame owns, or NULL: none, or it only borrows. */
static inline PyObject *
stackref_owned(_PyStackRef r)
{
    if (PyStackRef_IsNull(r) || PyStackRef_IsTaggedInt(r)) {
        return NULL;
    }
#ifdef Py_GIL_DISABLED
    bool owns = !PyStackRef_IsDeferred(r);
#else
    bool owns = PyStackRef_RefcountOnObject(r);
#endif
    return owns ? PyStackRef_AsPyObjectBorrow(r) : NULL;
}
#endif

static inline PyObject *
frame_slot(PyFrameData *f, Py_ssize_t i)
{
#if PY_VERSION_HEX >= 0x030E0000
    return stackref_owned(f->localsplus[i]);
#else
    return f->localsplus[i];
#endif
}

static inline PyObject *
frame_function(PyFrameData *f)
{
#if PY_VERSION_HEX >= 0x030E0000
    return stackref_owned(f->f_funcobj);
#elif PY_VERSION_HEX >= 0x030C0000
    return f->f_funcobj;
#else
    return (PyObject *)f->f_func;
#endif
}

/* The generator or coroutine whose frame this is, or NULL. */
static inline PyObject *
frame_generator(PyFrameData *f)
{
    return f->owner == FRAME_OWNED_BY_GENERATOR
               ? (PyObject *)((char *)f - offsetof(PyGenObject, gi_iframe))
               : NULL;
}

static inline void
visit_all(PyObject *const *v, Py_ssize_t n, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        if (v[i] != NULL) {
            visit(v[i], arg);
        }
    }
}

/* The references that f owns, with the first `slots` of localsplus. */
static inline void
frame_visit(PyFrameData *f, Py_ssize_t slots, visitproc visit, void *arg)
{
    PyObject *const own[] = {frame_function(f), f->f_locals, (PyObject *)f->frame_obj};
    visit_all(own, Py_ARRAY_LENGTH(own), visit, arg);
    for (Py_ssize_t i = 0; i < slots; i++) {
        PyObject *o = frame_slot(f, i);
        if (o != NULL) {
            visit(o, arg);
        }
    }
}

#if PY_VERSION_HEX >= 0x030E0000
/* From 3.14 on tp_traverse of what has a frame shows anybody but the collector
 * borrowed references too: true if this did it instead. */
static inline bool
visit_with_frame(PyObject *o, visitproc visit, void *arg)
{
    if (PyGen_CheckExact(o) || PyCoro_CheckExact(o) || PyAsyncGen_CheckExact(o)) {
        PyGenObject *gen = (PyGenObject *)o;
        if (!FRAME_STATE_FINISHED(gen->gi_frame_state)) {
            PyFrameData *f = (PyFrameData *)&gen->gi_iframe;
            PyObject *const handled[] = {gen->gi_exc_state.exc_value};
            visit_all(handled, 1, visit, arg);
            frame_visit(f, frame_slots(f), visit, arg);
        }
        return true;
    }
    if (PyFrame_Check(o)) {
        PyFrameData *f = ((PyFrameObject *)o)->f_frame;
        if (f != NULL && f->owner == FRAME_OWNED_BY_FRAME_OBJECT) {
            PyObject *const back[] = {(PyObject *)((PyFrameObject *)o)->f_back};
            visit_all(back, 1, visit, arg);
            frame_visit(f, frame_slots(f), visit, arg);
        }
        return true;
    }
    return false;
}
#else
#define visit_with_frame(o, visit, arg) ((void)(o), false)
#endif

/* The exception that p's goroutine handles furthest out, and its context, both owned;
 * in ts if that is given. */
static inline PyObject *
pystate_handled(PyState *p, PyThreadState *ts)
{
    return ts != NULL ? ts->exc_state.exc_value : p->exc_state.exc_value;
}

static inline PyObject *
pystate_context(PyState *p, PyThreadState *ts)
{
    return ts != NULL ? ts->context : p->context;
}

/* ---- places.c: how much of a frame's stack is in use, up to CPython 3.13 ---- */

/* What an instruction that calls C code has on the stack while it does. */
typedef struct {
    PyCodeObject *code; /* owned, so that its address is no other's */
    int lasti;
    int slots; /* owned ones above the variables; -1: unknown */
    int held;  /* references to the object of the call that it has elsewhere; or
                  ARGS_TUPLE: to the tuple of the arguments */
} Place;

#define ARGS_TUPLE (-1)

HIDDEN const Place *place_of(PyFrameData *f);
HIDDEN bool places_measure(void);
HIDDEN void places_trim(void);

#endif
