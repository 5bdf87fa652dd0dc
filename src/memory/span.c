/* SPDX-License-Identifier: MIT
 *
 * span.c: what slices and arrays have in common: indices, slicing, iteration, comparison.
 *
 * Bounds are Go's, and so is what is said when they are broken: there are no negative
 * indices, s[low:high] may reach beyond len up to cap, and the third number of
 * s[low:high:max] is where the capacity ends, not a step.
 */
#include "memory.h"

bool
span_of(PyObject *o, Span *span)
{
    if (is_slice(o)) {
        *span = slice_span((Slice *)o);
        return true;
    }
    if (Py_TYPE(o) == &Array_Type) {
        *span = array_span((Array *)o);
        return true;
    }
    return false;
}

static Span
known_span(PyObject *o)
{
    return is_slice(o) ? slice_span((Slice *)o) : array_span((Array *)o);
}

/* ---- one element --------------------------------------------------------------------------------- */

static NOINLINE Py_ssize_t
index_error(PyObject *key, Py_ssize_t i, Py_ssize_t len)
{
    if (!PyIndex_Check(key)) {
        PyErr_Format(PyExc_TypeError, "indices must be integers or slices, not %.100s",
                     Py_TYPE(key)->tp_name);
    }
    else if (i < 0) {
        PyErr_Format(PyExc_IndexError, "index out of range [%zd]", i);
    }
    else {
        PyErr_Format(PyExc_IndexError, "index out of range [%zd] with length %zd", i, len);
    }
    return -1;
}

/* The index, or -1 with an exception.  What no Py_ssize_t holds is cut to one. */
static inline Py_ssize_t
index_of(PyObject *key, Py_ssize_t len)
{
    Py_ssize_t i = PyIndex_Check(key) ? PyNumber_AsSsize_t(key, NULL) : -1;
    if (LIKELY(i >= 0 && i < len)) {
        return i;
    }
    return i == -1 && PyErr_Occurred() ? -1 : index_error(key, i, len);
}

static inline PyObject *
load_at(const Span *a, Py_ssize_t i)
{
    return elem_load(a->elem, a->block, a->data + i * a->elem->size);
}

PyObject *
span_item(PyObject *o, Py_ssize_t i)
{
    Span a = known_span(o);
    if (i < 0 || i >= a.len) {
        PyErr_Format(PyExc_IndexError, "index out of range [%zd] with length %zd", i, a.len);
        return NULL;
    }
    return load_at(&a, i);
}

/* ---- slicing ------------------------------------------------------------------------------------------ */

typedef struct {
    Py_ssize_t low, high, max;
    bool has_max;
} Bounds;

static int
bound_of(PyObject *o, Py_ssize_t otherwise, Py_ssize_t *bound)
{
    if (o == Py_None) {
        *bound = otherwise;
        return 0;
    }
    if (!PyIndex_Check(o)) {
        PyErr_Format(PyExc_TypeError, "slice bounds must be integers, not %.100s",
                     Py_TYPE(o)->tp_name);
        return -1;
    }
    *bound = PyNumber_AsSsize_t(o, NULL);
    return *bound == -1 && PyErr_Occurred() ? -1 : 0;
}

#define BOUNDS "slice bounds out of range "

static int
over_limit(const char *colons, Py_ssize_t bound, Py_ssize_t limit, bool is_array)
{
    if (bound < 0) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[%s%zd]", colons, bound);
    }
    else {
        PyErr_Format(PyExc_IndexError, BOUNDS "[%s%zd] with %s %zd", colons, bound,
                     is_array ? "length" : "capacity", limit);
    }
    return -1;
}

/* In the order that Go checks them: from the last to the first. */
static int
check_two(const Bounds *b, Py_ssize_t cap, bool is_array)
{
    if (b->high < 0 || b->high > cap) {
        return over_limit(":", b->high, cap, is_array);
    }
    if (b->low < 0) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[%zd:]", b->low);
        return -1;
    }
    if (b->low > b->high) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[%zd:%zd]", b->low, b->high);
        return -1;
    }
    return 0;
}

static int
check_three(const Bounds *b, Py_ssize_t cap, bool is_array)
{
    if (b->max < 0 || b->max > cap) {
        return over_limit("::", b->max, cap, is_array);
    }
    if (b->high < 0) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[:%zd:]", b->high);
    }
    else if (b->high > b->max) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[:%zd:%zd]", b->high, b->max);
    }
    else if (b->low < 0) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[%zd::]", b->low);
    }
    else if (b->low > b->high) {
        PyErr_Format(PyExc_IndexError, BOUNDS "[%zd:%zd:]", b->low, b->high);
    }
    else {
        return 0;
    }
    return -1;
}

static int
bounds_of(PySliceObject *key, const Span *a, bool is_array, Bounds *b)
{
    b->has_max = key->step != Py_None;
    if (bound_of(key->start, 0, &b->low) < 0 || bound_of(key->stop, a->len, &b->high) < 0 ||
        bound_of(key->step, a->cap, &b->max) < 0) {
        return -1;
    }
    return b->has_max ? check_three(b, a->cap, is_array) : check_two(b, a->cap, is_array);
}

/* The type of a slice of o: a new reference. */
static Type *
slice_type_of(PyObject *o)
{
    Type *t = ((Header *)o)->type;
    return is_slice(o) ? (Type *)Py_NewRef((PyObject *)t) : slice_type(t->sub);
}

static PyObject *
get_slice(PyObject *o, PySliceObject *key)
{
    Span a = known_span(o);
    Bounds b;
    if (bounds_of(key, &a, !is_slice(o), &b) < 0) {
        return NULL;
    }
    Type *t = slice_type_of(o);
    if (t == NULL) {
        return NULL;
    }
    PyObject *s =
        slice_new(t, a.block, a.data + b.low * a.elem->size, b.high - b.low, b.max - b.low);
    Py_DECREF(t);
    return s;
}

PyObject *
span_get(PyObject *o, PyObject *key)
{
    if (PySlice_Check(key)) {
        return get_slice(o, (PySliceObject *)key);
    }
    Span a = known_span(o);
    Py_ssize_t i = index_of(key, a.len);
    return i < 0 ? NULL : load_at(&a, i);
}

/* ---- storing -------------------------------------------------------------------------------------------- */

/* s[i:j] = values: as many as there are places. */
static int
set_slice(PyObject *o, PyObject *key, PyObject *values)
{
    PyObject *part = get_slice(o, (PySliceObject *)key);
    if (part == NULL) {
        return -1;
    }
    int r = span_fill(slice_span((Slice *)part), values, "assignment");
    Py_DECREF(part);
    return r;
}

int
span_set(PyObject *o, PyObject *key, PyObject *v)
{
    if (v == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "elements cannot be deleted: s = append(s[:i], *s[i + 1:]) closes a gap");
        return -1;
    }
    if (PySlice_Check(key)) {
        return set_slice(o, key, v);
    }
    Span a = known_span(o);
    Py_ssize_t i = index_of(key, a.len);
    return i < 0 ? -1 : elem_store(a.elem, a.block, a.data + i * a.elem->size, v, i);
}

static int
wrong_count(const char *who, Py_ssize_t n, Py_ssize_t len)
{
    PyErr_Format(PyExc_ValueError, "%s of %zd values to %zd elements", who, n, len);
    return -1;
}

static int
fill_from_span(Span to, const Span *from, const char *who)
{
    if (from->len != to.len) {
        return wrong_count(who, from->len, to.len);
    }
    elem_move(to.elem, to.block, to.data, from->block, from->data, to.len);
    return 0;
}

static int
fill_from_buffer(Span to, Py_buffer *view, const char *who)
{
    Py_ssize_t n = view->len / to.elem->size;
    if (n == to.len && n > 0) {
        memmove(to.data, view->buf, (size_t)view->len);
        block_wrote(to.block, to.data + view->len);
    }
    PyBuffer_Release(view);
    return n == to.len ? 0 : wrong_count(who, n, to.len);
}

int
span_fill_items(Span to, PyObject *const *items, Py_ssize_t n, const char *who)
{
    if (n != to.len) {
        return wrong_count(who, n, to.len);
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (elem_store(to.elem, to.block, to.data + i * to.elem->size, items[i], i) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
fill_from_tuple(Span to, PyObject *values, const char *who)
{
    return span_fill_items(to, &PyTuple_GET_ITEM(values, 0), PyTuple_GET_SIZE(values), who);
}

/* Store as many values as there is room for: of a slice, an array, a buffer, a str (as
 * bytes) or any iterable.  `who` is for messages. */
int
span_fill(Span to, PyObject *values, const char *who)
{
    Span from;
    Py_buffer view;
    if (span_of(values, &from) && type_equal(from.elem, to.elem)) {
        return fill_from_span(to, &from, who);
    }
    int found = elements_of(values, to.elem, &view);
    if (found != 0) {
        return found < 0 ? -1 : fill_from_buffer(to, &view, who);
    }
    PyObject *all = PySequence_Tuple(values);
    int r = all != NULL ? fill_from_tuple(to, all, who) : -1;
    Py_XDECREF(all);
    return r;
}

PyObject *
span_tuple(PyObject *o)
{
    Span a = known_span(o);
    PyObject *all = PyTuple_New(a.len);
    for (Py_ssize_t i = 0; all != NULL && i < a.len; i++) {
        PyObject *v = load_at(&a, i);
        if (v == NULL) {
            Py_CLEAR(all);
            break;
        }
        PyTuple_SET_ITEM(all, i, v);
    }
    return all;
}

/* ---- iteration -------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *of; /* a Slice or an Array */
    Py_ssize_t next;
} SpanIter;

PyObject *
span_iter(PyObject *o)
{
    SpanIter *it = PyObject_GC_New(SpanIter, &SpanIter_Type);
    if (it != NULL) {
        it->of = Py_NewRef(o);
        it->next = 0;
        PyObject_GC_Track(it);
    }
    return (PyObject *)it;
}

static PyObject *
SpanIter_next(SpanIter *it)
{
    Span a = known_span(it->of);
    Py_ssize_t i = it->next; /* read once: other threads may use the same iterator */
    if (i >= a.len) {
        return NULL;
    }
    it->next = i + 1;
    return load_at(&a, i);
}

static PyObject *
SpanIter_length_hint(SpanIter *it, PyObject *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(known_span(it->of).len - it->next);
}

static int
SpanIter_traverse(SpanIter *it, visitproc visit, void *arg)
{
    Py_VISIT(it->of);
    return 0;
}

static void
SpanIter_dealloc(SpanIter *it)
{
    PyObject_GC_UnTrack(it);
    Py_DECREF(it->of);
    PyObject_GC_Del(it);
}

static PyMethodDef SpanIter_methods[] = {
    METHOD("__length_hint__", SpanIter_length_hint, METH_NOARGS, NULL),
    {NULL, NULL, 0, NULL},
};

PyTypeObject SpanIter_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Iterator",
    .tp_basicsize = sizeof(SpanIter),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)SpanIter_next,
    .tp_traverse = (traverseproc)SpanIter_traverse,
    .tp_dealloc = (destructor)SpanIter_dealloc,
    .tp_methods = SpanIter_methods,
};

/* ---- comparison --------------------------------------------------------------------------------------------- */

/* Slices of bytes equal what has the same bytes. */
static int
bytes_equal(const Span *a, PyObject *b)
{
    Py_buffer view;
    if (a->elem->kind != K_UINT8 || !PyObject_CheckBuffer(b)) {
        return -2;
    }
    int found = elements_of(b, a->elem, &view);
    if (found <= 0) {
        return found < 0 ? -1 : -2;
    }
    int equal = view.len == a->len && memcmp(view.buf, a->data, (size_t)a->len) == 0;
    PyBuffer_Release(&view);
    return equal;
}

static int
spans_equal(PyObject *o, PyObject *b)
{
    Span x = known_span(o), y;
    if (Py_TYPE(o) != Py_TYPE(b)) {
        return is_slice(o) ? bytes_equal(&x, b) : -2;
    }
    y = known_span(b);
    if (!type_equal(x.elem, y.elem) || x.len != y.len) {
        return 0;
    }
    return elem_equal(x.elem, x.block, x.data, y.block, y.data, x.len);
}

PyObject *
span_compare(PyObject *a, PyObject *b, int op)
{
    if (op != Py_EQ && op != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (Py_EnterRecursiveCall(" in comparison")) {
        return NULL;
    }
    int equal = spans_equal(a, b);
    Py_LeaveRecursiveCall();
    if (equal == -2) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}
