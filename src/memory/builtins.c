/* SPDX-License-Identifier: MIT
 *
 * builtins.c: new, make, cap, clear, delete, array_of, slice_of; the module's set-up.
 */
#include "memory.h"

/* ---- make ------------------------------------------------------------------------------------------- */

static int
size_arg(const char *name, PyObject *o, Py_ssize_t *n)
{
    if (!PyIndex_Check(o)) {
        PyErr_Format(PyExc_TypeError, "make: %s must be an int, not %.100s", name,
                     Py_TYPE(o)->tp_name);
        return -1;
    }
    *n = PyNumber_AsSsize_t(o, PyExc_OverflowError);
    if (*n != -1 || !PyErr_Occurred()) {
        return 0;
    }
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return -1;
    }
    PyErr_Clear();
    *n = -1; /* out of range in any case */
    return 0;
}

static PyObject *
make_slice(Type *t, PyObject *len, PyObject *cap)
{
    Py_ssize_t n, c;
    if (UNLIKELY(len == NULL)) {
        PyErr_Format(PyExc_TypeError, "make(%S) needs a len", t);
        return NULL;
    }
    if (size_arg("len", len, &n) < 0) {
        return NULL;
    }
    c = n;
    if (cap != NULL && cap != Py_None && size_arg("cap", cap, &c) < 0) {
        return NULL;
    }
    return slice_make(t, n, c);
}

/* Like Go, takes a size as a hint, for which there is no use here. */
static PyObject *
make_map(Type *t, PyObject *size, PyObject *cap)
{
    Py_ssize_t n = 0;
    if (cap != NULL) {
        PyErr_Format(PyExc_TypeError, "make(%S) takes one size at most", t);
        return NULL;
    }
    if (size != NULL && size_arg("size", size, &n) < 0) {
        return NULL;
    }
    if (n < 0) {
        PyErr_SetString(PyExc_ValueError, "makemap: size out of range");
        return NULL;
    }
    return map_make(t, NULL);
}

/* 1, 0, or -1 with an exception: is this Chan or Chan[T]? */
static int
is_chan(PyObject *o)
{
    if (Py_TYPE(o) != &Py_GenericAliasType) {
        return o == (PyObject *)chan_type;
    }
    PyObject *origin = PyObject_GetAttrString(o, "__origin__");
    Py_XDECREF(origin);
    return origin == NULL ? -1 : origin == (PyObject *)chan_type;
}

static PyObject *
make_chan(PyObject *cap)
{
    return cap != NULL ? PyObject_CallOneArg((PyObject *)chan_type, cap)
                       : PyObject_CallNoArgs((PyObject *)chan_type);
}

static NOINLINE PyObject *
make_other(PyObject *o, PyObject *len, PyObject *cap)
{
    Kind kind = is_type(o) ? ((Type *)o)->kind : K_OBJECT;
    if (kind == K_SLICE) {
        return make_slice((Type *)o, len, cap);
    }
    if (kind == K_MAP) {
        return make_map((Type *)o, len, cap);
    }
    int chan = is_chan(o);
    if (chan > 0 && (len == NULL || cap == NULL)) {
        return make_chan(len != NULL ? len : cap);
    }
    if (chan == 0) {
        PyErr_Format(PyExc_TypeError,
                     "cannot make %R; the type must be Slice[T], Map[K, V] or Chan[T]", o);
    }
    else if (chan > 0) {
        PyErr_SetString(PyExc_TypeError, "make(Chan[T]) takes one size at most");
    }
    return NULL;
}

static PyObject *
mem_make(PyObject *mod, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"kind", "len", "cap", NULL};
    PyObject *given[3];
    (void)mod;
    if (LIKELY(nargs == 2 && kwnames == NULL && is_type(args[0]) &&
               ((Type *)args[0])->kind == K_SLICE)) {
        return make_slice((Type *)args[0], args[1], NULL);
    }
    if (named_args("make", names, 1, args, nargs, kwnames, given) < 0) {
        return NULL;
    }
    return make_other(given[0], given[1], given[2]);
}

/* ---- new, array_of, slice_of ------------------------------------------------------------------------------ */

static PyObject *
mem_new(PyObject *mod, PyObject *o)
{
    (void)mod;
    Type *elem = type_of(o);
    Type *t = elem != NULL ? pointer_type(elem) : NULL;
    PyObject *p = t != NULL ? pointer_make(t) : NULL;
    Py_XDECREF(elem);
    Py_XDECREF(t);
    return p;
}

/* The first argument as a type, or NULL. */
static Type *
first_type(const char *form, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1) {
        PyErr_Format(PyExc_TypeError, "%s needs an element type", form);
        return NULL;
    }
    return type_of(args[0]);
}

static PyObject *
mem_array_of(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    Type *elem = first_type("array_of(T, *values)", args, nargs);
    Type *t = elem != NULL ? array_type(elem, nargs - 1) : NULL;
    PyObject *a = t != NULL ? array_make(t, NULL) : NULL;
    if (a != NULL && span_fill_items(array_span((Array *)a), args + 1, nargs - 1, "array") < 0) {
        Py_CLEAR(a);
    }
    Py_XDECREF(elem);
    Py_XDECREF(t);
    return a;
}

static PyObject *
mem_slice_of(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    Type *elem = first_type("slice_of(T, *values)", args, nargs);
    Type *t = elem != NULL ? slice_type(elem) : NULL;
    PyObject *s = t != NULL ? slice_make(t, nargs - 1, nargs - 1) : NULL;
    if (s != NULL && span_fill_items(slice_span((Slice *)s), args + 1, nargs - 1, "slice") < 0) {
        Py_CLEAR(s);
    }
    Py_XDECREF(elem);
    Py_XDECREF(t);
    return s;
}

/* ---- cap, clear, delete -------------------------------------------------------------------------------------- */

static PyObject *
cap_of_pointer(Pointer *p)
{
    Type *t = p->type->sub;
    if (t->kind == K_ARRAY) {
        return PyLong_FromSsize_t(t->n);
    }
    PyErr_Format(PyExc_TypeError, "cap: a %S has no capacity", p->type);
    return NULL;
}

static PyObject *
mem_cap(PyObject *mod, PyObject *o)
{
    Span span;
    (void)mod;
    if (span_of(o, &span)) {
        return PyLong_FromSsize_t(span.cap);
    }
    if (Py_TYPE(o) == chan_type) {
        return PyLong_FromSsize_t(((Chan *)o)->cap);
    }
    if (Py_TYPE(o) == &Pointer_Type) {
        return cap_of_pointer((Pointer *)o);
    }
    PyErr_Format(PyExc_TypeError, "cap: expected a Slice, an Array or a Chan, not %.100s",
                 Py_TYPE(o)->tp_name);
    return NULL;
}

static PyObject *
mem_clear(PyObject *mod, PyObject *o)
{
    (void)mod;
    if (is_slice(o)) {
        Span a = slice_span((Slice *)o);
        elem_clear(a.elem, a.block, a.data, a.len);
        Py_RETURN_NONE;
    }
    if (Py_TYPE(o) == &Map_Type) {
        map_clear((Map *)o);
        Py_RETURN_NONE;
    }
    PyErr_Format(PyExc_TypeError, "clear: expected a Slice or a Map, not %.100s%s",
                 Py_TYPE(o)->tp_name, Py_TYPE(o) == &Array_Type ? ": clear(a[:])" : "");
    return NULL;
}

static PyObject *
mem_delete(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "delete(m, key) takes two arguments, got %zd", nargs);
        return NULL;
    }
    if (Py_TYPE(args[0]) != &Map_Type) {
        PyErr_Format(PyExc_TypeError, "delete: expected a Map, not %.100s",
                     Py_TYPE(args[0])->tp_name);
        return NULL;
    }
    return map_delete((Map *)args[0], args[1]);
}

/* ---- set-up ------------------------------------------------------------------------------------------------------ */

static PyMethodDef functions[] = {
    METHOD("new", mem_new, METH_O,
           PyDoc_STR(
               "new(kind, /)\n--\n\n"
               "A Pointer[T] to a zero value of its own.  Raises TypeError if kind is no type.")),
    METHOD(
        "make", mem_make, FASTKW,
        PyDoc_STR(
            "make(kind, len=None, cap=None)\n--\n\n"
            "make(Slice[T], len, cap=len): a slice of zero values; make(Map[K, V]); make(Chan[T],\n"
            "cap).\n\n"
            "Raises ValueError for sizes that are negative, absurd or a cap below len, as Go\n"
            "words them, MemoryError when there is no memory, TypeError for other types.")),
    METHOD("append", mem_append, METH_FASTCALL,
           PyDoc_STR(
               "append(s, /, *values)\n--\n\n"
               "The slice s with values behind it: s = append(s, 1, 2).\n\n"
               "Within cap(s) they are written in place, where other slices see them; beyond it\n"
               "the elements are copied to more memory, which grows as Go's.  Raises TypeError\n"
               "and OverflowError for a value that does not fit, before anything is written.")),
    METHOD("extend", mem_extend, METH_FASTCALL,
           PyDoc_STR("extend(s, values, /)\n--\n\n"
                     "append(s, *values), but fast: Go's append(s, values...).\n\n"
                     "values is a slice, an array, a buffer of the same items (bytes, a NumPy\n"
                     "array), for bytes also a str, or any iterable.  Raises as append does.")),
    METHOD("copy", mem_copy, METH_FASTCALL,
           PyDoc_STR("copy(dst, src, /)\n--\n\n"
                     "Copy elements of src to dst, as many as the shorter has; return how many.\n\n"
                     "src is a slice of the same type, overlapping or not, a buffer of the same\n"
                     "items, or, for bytes, a str.  Raises TypeError for anything else.")),
    METHOD(
        "cap", mem_cap, METH_O,
        PyDoc_STR("cap(x, /)\n--\n\n"
                  "How many elements a slice can have before append moves it; an array's length,\n"
                  "a channel's buffer.  Raises TypeError for anything else.")),
    METHOD(
        "clear", mem_clear, METH_O,
        PyDoc_STR("clear(x, /)\n--\n\n"
                  "Set a slice's elements to zero values, or empty a map.  Raises TypeError for\n"
                  "anything else.")),
    METHOD(
        "delete", mem_delete, METH_FASTCALL,
        PyDoc_STR("delete(m, key, /)\n--\n\n"
                  "Remove a key from a map, if it is there.  Raises TypeError for a key that is\n"
                  "not of the map's type.")),
    METHOD("array_of", mem_array_of, METH_FASTCALL,
           PyDoc_STR("array_of(kind, /, *values)\n--\n\n"
                     "An Array[T, len(values)] of these values: Go's [...]T{values}.")),
    METHOD("slice_of", mem_slice_of, METH_FASTCALL,
           PyDoc_STR("slice_of(kind, /, *values)\n--\n\n"
                     "A Slice[T] of these values: Go's []T{values}.")),
    {NULL, NULL, 0, NULL},
};

int
memory_add_types(PyObject *mod)
{
    return types_init(mod) < 0 || values_init() < 0 || map_init() < 0
               ? -1
               : PyModule_AddFunctions(mod, functions);
}
