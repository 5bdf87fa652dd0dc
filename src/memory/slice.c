/* SPDX-License-Identifier: MIT
 *
 * slice.c: Slice[T] and what is done to slices: make, append, extend, copy.
 *
 * A header is a value, as in Go: append returns another one, and two of them may show the
 * same elements.  Within the capacity append writes behind the slice's end, in place, which
 * other slices of the same block see; beyond it the elements are copied to a new block.
 */
#include "memory.h"

/* ---- making ------------------------------------------------------------------------------------- */

static bool
too_large(const Type *elem, Py_ssize_t n)
{
    Py_ssize_t bytes;
    return n < 0 || __builtin_mul_overflow(n, elem->size, &bytes) || bytes > MAX_BYTES;
}

/* Zeroed.  ValueError as Go words it. */
PyObject *
slice_make(Type *type, Py_ssize_t len, Py_ssize_t cap)
{
    if (UNLIKELY(too_large(type->sub, len))) {
        PyErr_SetString(PyExc_ValueError, "makeslice: len out of range");
        return NULL;
    }
    if (UNLIKELY(cap < len || too_large(type->sub, cap))) {
        PyErr_SetString(PyExc_ValueError, "makeslice: cap out of range");
        return NULL;
    }
    Block *block = block_new(type->sub, cap, true);
    if (block == NULL) {
        return NULL;
    }
    PyObject *s = slice_new(type, block, block->data, len, cap);
    Py_DECREF(block);
    return s;
}

/* A slice of so many values, or NULL. */
static PyObject *
slice_of_items(Type *type, PyObject *const *items, Py_ssize_t n)
{
    PyObject *s = slice_make(type, n, n);
    if (s != NULL && span_fill_items(slice_span((Slice *)s), items, n, "slice") < 0) {
        Py_CLEAR(s);
    }
    return s;
}

static PyObject *
slice_of_buffer(Type *type, Py_buffer *view)
{
    Py_ssize_t n = view->len / type->sub->size;
    PyObject *s = slice_make(type, n, n);
    if (s != NULL) {
        memcpy(((Slice *)s)->h.data, view->buf, (size_t)view->len);
        block_wrote(((Slice *)s)->h.block, ((Slice *)s)->h.data + view->len);
    }
    return s;
}

static PyObject *
slice_of_span(Type *type, const Span *from)
{
    PyObject *s = slice_make(type, from->len, from->len);
    if (s != NULL) {
        elem_move(from->elem, ((Slice *)s)->h.block, ((Slice *)s)->h.data, from->block, from->data,
                  from->len);
    }
    return s;
}

/* The elements of `values` copied: a slice of its own.  NULL: the nil slice. */
PyObject *
slice_from(Type *type, PyObject *values)
{
    Span from;
    Py_buffer view;
    if (values == NULL) {
        return slice_new(type, NULL, nothing, 0, 0);
    }
    if (span_of(values, &from) && type_equal(from.elem, type->sub)) {
        return slice_of_span(type, &from);
    }
    int found = elements_of(values, type->sub, &view);
    if (found != 0) {
        PyObject *s = found > 0 ? slice_of_buffer(type, &view) : NULL;
        if (found > 0) {
            PyBuffer_Release(&view);
        }
        return s;
    }
    PyObject *all = PySequence_Tuple(values);
    PyObject *s =
        all != NULL ? slice_of_items(type, &PyTuple_GET_ITEM(all, 0), PyTuple_GET_SIZE(all)) : NULL;
    Py_XDECREF(all);
    return s;
}

/* ---- growing ---------------------------------------------------------------------------------------- */

/* Go's nextslicecap: twice as much, and from 256 on ever nearer to a quarter more. */
static Py_ssize_t
next_cap(Py_ssize_t need, Py_ssize_t old)
{
    if (need > 2 * old) {
        return need;
    }
    if (old < 256) {
        return 2 * old;
    }
    Py_ssize_t cap = old;
    do {
        cap += (cap + 3 * 256) >> 2;
    } while (cap < need);
    return cap;
}

/* Go's growslice: as many as fit the allocator's class.  There, larger blocks with pointers
 * begin with 8 bytes for the collector; ours do not, but the caps shall be Go's. */
static Py_ssize_t
grown_cap(const Type *elem, Py_ssize_t need, Py_ssize_t old)
{
    if (elem->go_size == 0) {
        return need;
    }
    size_t bytes = (size_t)next_cap(need, old) * (size_t)elem->go_size;
    size_t head = elem->has_refs && bytes > 512 && bytes <= 32760 ? 8 : 0;
    return (Py_ssize_t)((mem_round(bytes + head) - head) / (size_t)elem->go_size);
}

/* A slice of len + n elements in a block of its own. */
static NOINLINE PyObject *
moved(Slice *s, Py_ssize_t n)
{
    Type *elem = s->h.type->sub;
    Py_ssize_t need, bytes;
    if (__builtin_add_overflow(s->len, n, &need) ||
        __builtin_mul_overflow(need, elem->go_size, &bytes) || bytes > MAX_BYTES) {
        PyErr_SetString(PyExc_ValueError, "growslice: len out of range");
        return NULL;
    }
    Py_ssize_t cap = grown_cap(elem, need, s->cap), size = elem->size;
    bool large = cap * size > LARGE; /* zeros come cheap from the system then */
    Block *block = block_new(elem, cap, large);
    if (block == NULL) {
        return NULL;
    }
    if (!large && !elem->has_refs) {
        memset(block->data + s->len * size, 0, (size_t)((cap - s->len) * size));
    }
    elem_move(elem, block, block->data, s->h.block, s->h.data, s->len);
    PyObject *t = slice_new(s->h.type, block, block->data, need, cap);
    Py_DECREF(block);
    return t;
}

/* A slice with n more elements at its end, in place if there is room. */
static inline PyObject *
longer(Slice *s, Py_ssize_t n)
{
    return LIKELY(n <= s->cap - s->len)
               ? slice_new(s->h.type, s->h.block, s->h.data, s->len + n, s->cap)
               : moved(s, n);
}

/* ---- append, extend, copy ------------------------------------------------------------------------------ */

static Slice *
slice_arg(const char *who, PyObject *o)
{
    if (UNLIKELY(!is_slice(o))) {
        PyErr_Format(PyExc_TypeError, "%s: expected a Slice, not %.100s", who, Py_TYPE(o)->tp_name);
        return NULL;
    }
    return (Slice *)o;
}

/* As many as there are, or none: all are checked before the first is written. */
static PyObject *
append_span(Slice *s, const Span *from)
{
    PyObject *t = longer(s, from->len);
    if (t != NULL) {
        Slice *to = (Slice *)t;
        elem_move(from->elem, to->h.block, to->h.data + s->len * from->elem->size, from->block,
                  from->data, from->len);
    }
    return t;
}

static PyObject *
append_items(Slice *s, PyObject *const *items, Py_ssize_t n)
{
    PyObject *part = slice_of_items(s->h.type, items, n);
    if (part == NULL) {
        return NULL;
    }
    Span from = slice_span((Slice *)part);
    PyObject *t = append_span(s, &from);
    Py_DECREF(part);
    return t;
}

static inline PyObject *
append_one(Slice *s, PyObject *v)
{
    PyObject *t = longer(s, 1);
    if (t == NULL) {
        return NULL;
    }
    Type *elem = s->h.type->sub;
    Slice *to = (Slice *)t;
    if (UNLIKELY(elem_store(elem, to->h.block, to->h.data + s->len * elem->size, v, s->len) < 0)) {
        Py_CLEAR(t);
    }
    return t;
}

PyObject *
mem_append(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    if (UNLIKELY(nargs < 1)) {
        PyErr_SetString(PyExc_TypeError, "append(s, *values) needs a Slice");
        return NULL;
    }
    Slice *s = slice_arg("append", args[0]);
    if (s == NULL) {
        return NULL;
    }
    if (LIKELY(nargs == 2)) {
        return append_one(s, args[1]);
    }
    return nargs == 1 ? Py_NewRef(args[0]) : append_items(s, args + 1, nargs - 1);
}

static int
two_args(const char *form, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "%s takes two arguments, got %zd", form, nargs);
        return -1;
    }
    return 0;
}

PyObject *
mem_extend(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    Span from;
    (void)mod;
    Slice *s = two_args("extend(s, values)", nargs) == 0 ? slice_arg("extend", args[0]) : NULL;
    if (s == NULL) {
        return NULL;
    }
    PyObject *part = NULL, *t;
    if (!span_of(args[1], &from) || !type_equal(from.elem, s->h.type->sub)) {
        part = slice_from(s->h.type, args[1]);
        if (part == NULL) {
            return NULL;
        }
        from = slice_span((Slice *)part);
    }
    t = append_span(s, &from);
    Py_XDECREF(part);
    return t;
}

static PyObject *
copy_buffer(Slice *to, PyObject *src)
{
    Py_buffer view;
    Type *elem = to->h.type->sub;
    int found = elements_of(src, elem, &view);
    if (found == 0) {
        PyErr_Format(PyExc_TypeError, "copy: cannot copy from %.100s to %S", Py_TYPE(src)->tp_name,
                     to->h.type);
    }
    if (found <= 0) {
        return NULL;
    }
    Py_ssize_t n = view.len / elem->size < to->len ? view.len / elem->size : to->len;
    if (n > 0) {
        memmove(to->h.data, view.buf, (size_t)(n * elem->size));
        block_wrote(to->h.block, to->h.data + n * elem->size);
    }
    PyBuffer_Release(&view);
    return PyLong_FromSsize_t(n);
}

PyObject *
mem_copy(PyObject *mod, PyObject *const *args, Py_ssize_t nargs)
{
    (void)mod;
    Slice *to = two_args("copy(dst, src)", nargs) == 0 ? slice_arg("copy", args[0]) : NULL;
    if (to == NULL) {
        return NULL;
    }
    if (!is_slice(args[1])) {
        return copy_buffer(to, args[1]);
    }
    Span from = slice_span((Slice *)args[1]);
    if (!type_equal(from.elem, to->h.type->sub)) {
        PyErr_Format(PyExc_TypeError, "copy: a %S cannot be copied to a %S",
                     ((Slice *)args[1])->h.type, to->h.type);
        return NULL;
    }
    Py_ssize_t n = from.len < to->len ? from.len : to->len;
    elem_move(from.elem, to->h.block, to->h.data, from.block, from.data, n);
    return PyLong_FromSsize_t(n);
}

/* ---- the Python type ----------------------------------------------------------------------------------------- */

static Py_ssize_t
Slice_len(PyObject *o)
{
    return ((Slice *)o)->len;
}

static PyObject *
Slice_get_type(PyObject *o, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)((Slice *)o)->h.type);
}

static PyMethodDef Slice_methods[] = {
    METHOD("__reduce__", header_reduce, METH_NOARGS, NULL),
    METHOD("__setstate__", header_setstate, METH_O, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Slice_getset[] = {
    {"_type", Slice_get_type, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMappingMethods Slice_mapping = {Slice_len, span_get, span_set};
static PySequenceMethods Slice_sequence = {.sq_length = Slice_len, .sq_item = span_item};
static PyBufferProcs Slice_buffer = {span_getbuffer, span_releasebuffer};

PyTypeObject Slice_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Slice",
    .tp_doc = PyDoc_STR(
        "Slice[T]: a window on elements of type T, as Go's []T.  make(Slice[T], len, cap) is\n"
        "zeroed, Slice[T](values) has a copy of these, Slice[T]() is the nil slice.\n\n"
        "s[i:j] shares the elements and may reach up to cap(s); s[i:j:k] ends the capacity\n"
        "at k.  Compared by content, never hashed.  Slices of numbers are buffers.  Raises\n"
        "IndexError, worded as Go does, out of range (there are no negative indices),\n"
        "TypeError and OverflowError for what does not fit the element type."),
    .tp_basicsize = sizeof(Slice),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_SEQUENCE,
    .tp_repr = value_repr,
    .tp_str = value_str,
    .tp_hash = PyObject_HashNotImplemented,
    .tp_richcompare = span_compare,
    .tp_iter = span_iter,
    .tp_as_mapping = &Slice_mapping,
    .tp_as_sequence = &Slice_sequence,
    .tp_as_buffer = &Slice_buffer,
    .tp_traverse = (traverseproc)header_traverse,
    .tp_dealloc = (destructor)header_dealloc,
    .tp_methods = Slice_methods,
    .tp_getset = Slice_getset,
};
