/* SPDX-License-Identifier: MIT
 *
 * atomic.c: Int64, Bool and Value (Go's sync/atomic).
 *
 * Int64 and Bool are one atomic word each.  A Value's reference is guarded by
 * its lock, which is never held while objects are compared or dropped: that is
 * other people's code.
 */
#include "runtime.h"

/* ---- Int64 ---------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    _Atomic(int64_t) v;
    PyObject *weakrefs;
} Int64;

/* 0, or -1 with TypeError or OverflowError. */
static int
int64_arg(const char *who, PyObject *o, int64_t *v)
{
    int overflow;
    if (!PyLong_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s: expected an int, not %.100s", who, Py_TYPE(o)->tp_name);
        return -1;
    }
    *v = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow != 0) {
        PyErr_Format(PyExc_OverflowError, "%s: %R does not fit in 64 bits", who, o);
        return -1;
    }
    return 0;
}

static PyObject *
from_int64(int64_t v)
{
    return PyLong_FromLongLong((long long)v);
}

static PyObject *
Int64_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", NULL};
    PyObject *value = NULL;
    int64_t v = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Int64", names, &value) ||
        (value != NULL && int64_arg("Int64", value, &v) < 0)) {
        return NULL;
    }
    Int64 *a = (Int64 *)type->tp_alloc(type, 0);
    if (a != NULL) {
        atomic_store(&a->v, v);
    }
    return (PyObject *)a;
}

static PyObject *
Int64_load(Int64 *a, PyObject *unused)
{
    (void)unused;
    return from_int64(atomic_load(&a->v));
}

static PyObject *
Int64_store(Int64 *a, PyObject *value)
{
    int64_t v;
    if (int64_arg("Int64.store", value, &v) < 0) {
        return NULL;
    }
    atomic_store(&a->v, v);
    Py_RETURN_NONE;
}

static PyObject *
Int64_add(Int64 *a, PyObject *delta)
{
    int64_t d;
    if (int64_arg("Int64.add", delta, &d) < 0) {
        return NULL;
    }
    int64_t was = atomic_fetch_add(&a->v, d); /* atomics wrap */
    return from_int64((int64_t)((uint64_t)was + (uint64_t)d));
}

static PyObject *
Int64_swap(Int64 *a, PyObject *value)
{
    int64_t v;
    if (int64_arg("Int64.swap", value, &v) < 0) {
        return NULL;
    }
    return from_int64(atomic_exchange(&a->v, v));
}

static const char *const old_and_new[] = {"old", "new", NULL};

static PyObject *
Int64_compare_and_swap(Int64 *a, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *got[2];
    int64_t old, new;
    if (named_args("compare_and_swap", old_and_new, 2, args, nargs, kwnames, got) < 0 ||
        int64_arg("Int64.compare_and_swap", got[1], &new) < 0) {
        return NULL;
    }
    if (int64_arg("Int64.compare_and_swap", got[0], &old) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return NULL;
        }
        PyErr_Clear(); /* so it is not the value */
        Py_RETURN_FALSE;
    }
    return PyBool_FromLong(atomic_compare_exchange_strong(&a->v, &old, new));
}

static PyObject *
Int64_repr(Int64 *a)
{
    return PyUnicode_FromFormat("<Int64 %lld at %p>", (long long)atomic_load(&a->v), a);
}

/* ---- Bool ------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    _Atomic(bool) v;
    PyObject *weakrefs;
} Bool;

static int
bool_arg(const char *who, PyObject *o, bool *v)
{
    if (!PyBool_Check(o)) {
        PyErr_Format(PyExc_TypeError, "%s: expected a bool, not %.100s", who, Py_TYPE(o)->tp_name);
        return -1;
    }
    *v = o == Py_True;
    return 0;
}

static PyObject *
Bool_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", NULL};
    PyObject *value = Py_False;
    bool v;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Bool", names, &value) ||
        bool_arg("Bool", value, &v) < 0) {
        return NULL;
    }
    Bool *a = (Bool *)type->tp_alloc(type, 0);
    if (a != NULL) {
        atomic_store(&a->v, v);
    }
    return (PyObject *)a;
}

static PyObject *
Bool_load(Bool *a, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(atomic_load(&a->v));
}

static PyObject *
Bool_store(Bool *a, PyObject *value)
{
    bool v;
    if (bool_arg("Bool.store", value, &v) < 0) {
        return NULL;
    }
    atomic_store(&a->v, v);
    Py_RETURN_NONE;
}

static PyObject *
Bool_swap(Bool *a, PyObject *value)
{
    bool v;
    if (bool_arg("Bool.swap", value, &v) < 0) {
        return NULL;
    }
    return PyBool_FromLong(atomic_exchange(&a->v, v));
}

static PyObject *
Bool_compare_and_swap(Bool *a, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *got[2];
    bool old, new;
    if (named_args("compare_and_swap", old_and_new, 2, args, nargs, kwnames, got) < 0 ||
        bool_arg("Bool.compare_and_swap", got[0], &old) < 0 ||
        bool_arg("Bool.compare_and_swap", got[1], &new) < 0) {
        return NULL;
    }
    return PyBool_FromLong(atomic_compare_exchange_strong(&a->v, &old, new));
}

static PyObject *
Bool_repr(Bool *a)
{
    return PyUnicode_FromFormat("<Bool %s at %p>", atomic_load(&a->v) ? "True" : "False", a);
}

/* ---- Value ---------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Lock mu;
    PyObject *v; /* owned; guarded by mu */
    PyObject *weakrefs;
} Value;

static PyObject *
Value_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", NULL};
    PyObject *value = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Value", names, &value)) {
        return NULL;
    }
    Value *a = (Value *)type->tp_alloc(type, 0);
    if (a != NULL) {
        a->v = Py_NewRef(value);
    }
    return (PyObject *)a;
}

static PyObject *
Value_load(Value *a, PyObject *unused)
{
    (void)unused;
    LOCK(&a->mu);
    PyObject *v = Py_NewRef(a->v);
    UNLOCK(&a->mu);
    return v;
}

static PyObject *
Value_swap(Value *a, PyObject *value)
{
    LOCK(&a->mu);
    PyObject *old = a->v;
    a->v = Py_NewRef(value);
    UNLOCK(&a->mu);
    return old;
}

static PyObject *
Value_store(Value *a, PyObject *value)
{
    PyObject *old = Value_swap(a, value);
    Py_DECREF(old);
    Py_RETURN_NONE;
}

static PyObject *
Value_compare_and_swap(Value *a, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *got[2];
    if (named_args("compare_and_swap", old_and_new, 2, args, nargs, kwnames, got) < 0) {
        return NULL;
    }
    for (;;) {
        PyObject *seen = Value_load(a, NULL);
        int same = PyObject_RichCompareBool(seen, got[0], Py_EQ); /* identity first */
        if (same <= 0) {
            Py_DECREF(seen);
            return same < 0 ? NULL : Py_NewRef(Py_False);
        }
        LOCK(&a->mu);
        bool unchanged = a->v == seen;
        if (unchanged) {
            a->v = Py_NewRef(got[1]);
        }
        UNLOCK(&a->mu);
        Py_DECREF(seen);
        if (unchanged) {
            Py_DECREF(seen); /* the reference that the Value had */
            Py_RETURN_TRUE;
        }
    }
}

static PyObject *
Value_repr(Value *a)
{
    int nested = Py_ReprEnter((PyObject *)a); /* it may hold itself */
    if (nested != 0) {
        return nested > 0 ? PyUnicode_FromString("<Value ...>") : NULL;
    }
    PyObject *v = Value_load(a, NULL);
    PyObject *r = PyUnicode_FromFormat("<Value %R at %p>", v, a);
    Py_DECREF(v);
    Py_ReprLeave((PyObject *)a);
    return r;
}

static int
Value_traverse(Value *a, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(a));
    Py_VISIT(a->v);
    return 0;
}

static int
Value_clear(Value *a)
{
    PyObject *old = a->v;
    a->v = Py_NewRef(Py_None);
    Py_XDECREF(old);
    return 0;
}

static void
Value_dealloc(Value *a)
{
    PyObject_GC_UnTrack(a);
    Py_CLEAR(a->v);
    plain_dealloc((PyObject *)a);
}

/* ---- the Python types --------------------------------------------------------------------------- */

#define ATOMIC_METHODS(T)                                                                          \
    METHOD("load", T##_load, METH_NOARGS, PyDoc_STR("load($self)\n--\n\nThe value.")),             \
        METHOD("store", T##_store, METH_O,                                                         \
               PyDoc_STR("store($self, value, /)\n--\n\nReplace the value.")),                     \
        METHOD("swap", T##_swap, METH_O,                                                           \
               PyDoc_STR("swap($self, value, /)\n--\n\nReplace the value; return the old one.")),  \
        METHOD("compare_and_swap", T##_compare_and_swap, FASTKW,                                   \
               PyDoc_STR("compare_and_swap($self, old, new)\n--\n\n"                               \
                         "Replace the value by new if it equals old; return whether it did."))

static PyMethodDef int64_methods[] = {
    ATOMIC_METHODS(Int64),
    METHOD("add", Int64_add, METH_O,
           PyDoc_STR("add($self, delta, /)\n--\n\n"
                     "Add delta, wrapping around at 64 bits; return the new value.")),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef bool_methods[] = {
    ATOMIC_METHODS(Bool),
    {NULL, NULL, 0, NULL},
};

static PyMethodDef value_methods[] = {
    ATOMIC_METHODS(Value),
    METHOD("__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL),
    {NULL, NULL, 0, NULL},
};

#define WEAK_MEMBERS(T, name)                                                                      \
    static PyMemberDef name[] = {                                                                  \
        {"__weaklistoffset__", T_PYSSIZET, offsetof(T, weakrefs), READONLY, NULL},                 \
        {NULL, 0, 0, 0, NULL},                                                                     \
    }

WEAK_MEMBERS(Int64, int64_members);
WEAK_MEMBERS(Bool, bool_members);
WEAK_MEMBERS(Value, value_members);

static PyType_Slot int64_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Int64(value=0)\n--\n\n"
                                  "A 64-bit integer for many goroutines and threads (Go's\n"
                                  "atomic.Int64).  Raises OverflowError for an int that does not\n"
                                  "fit, TypeError for what is no int.")},
    {Py_tp_new, Int64_new},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, Int64_repr},
    {Py_tp_methods, int64_methods},
    {Py_tp_members, int64_members},
    {0, NULL},
};

static PyType_Slot bool_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Bool(value=False)\n--\n\n"
                                  "A bool for many goroutines and threads (Go's atomic.Bool).\n"
                                  "Raises TypeError for what is no bool.")},
    {Py_tp_new, Bool_new},
    {Py_tp_dealloc, plain_dealloc},
    {Py_tp_repr, Bool_repr},
    {Py_tp_methods, bool_methods},
    {Py_tp_members, bool_members},
    {0, NULL},
};

static PyType_Slot value_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("Value(value=None)\n--\n\n"
                                  "Any object, for many goroutines and threads (Go's\n"
                                  "atomic.Value).  compare_and_swap compares by identity or ==.")},
    {Py_tp_new, Value_new},
    {Py_tp_traverse, Value_traverse},
    {Py_tp_clear, Value_clear},
    {Py_tp_dealloc, Value_dealloc},
    {Py_tp_repr, Value_repr},
    {Py_tp_methods, value_methods},
    {Py_tp_members, value_members},
    {0, NULL},
};

#define ATOMIC_SPEC(type_name, type, more, type_slots)                                             \
    {                                                                                              \
        .name = type_name,                                                                         \
        .basicsize = sizeof(type),                                                                 \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | (more),                           \
        .slots = type_slots,                                                                       \
    }

static PyType_Spec int64_spec = ATOMIC_SPEC("goroutines.sync.atomic.Int64", Int64, 0, int64_slots);
static PyType_Spec bool_spec = ATOMIC_SPEC("goroutines.sync.atomic.Bool", Bool, 0, bool_slots);
static PyType_Spec value_spec =
    ATOMIC_SPEC("goroutines.sync.atomic.Value", Value, Py_TPFLAGS_HAVE_GC, value_slots);

int
atomic_add_types(PyObject *mod)
{
    return add_type(mod, &int64_spec) != NULL && add_type(mod, &bool_spec) != NULL &&
                   add_type(mod, &value_spec) != NULL
               ? 0
               : -1;
}
