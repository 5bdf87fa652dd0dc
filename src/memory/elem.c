/* SPDX-License-Identifier: MIT
 *
 * elem.c: elements in and out of storage; one place for each kind.
 *
 * What is stored is checked and never changed silently: 300 does not fit a byte, so
 * storing it is an OverflowError, and 1.5 is no int32.  Wrapping around, as Go's
 * conversions do, is what calling the type is for: uint8(300) is 44.
 *
 * References are exchanged one at a time under the block's mu and dropped after it: a
 * destructor runs anybody's code, which may use the same block.
 */
#include "memory.h"

/* ---- errors ---------------------------------------------------------------------------------- */

/* For messages: not longer than a line, and there whatever repr() does. */
static PyObject *
short_repr(PyObject *v)
{
    PyObject *r = PyObject_Repr(v);
    if (r == NULL) {
        PyErr_Clear(); /* an int of more digits than Python shows, for one */
        return PyUnicode_FromFormat("a value");
    }
    if (PyUnicode_GET_LENGTH(r) > 80) {
        Py_SETREF(r, PyUnicode_FromFormat("%.80U...", r));
    }
    return r;
}

static int
refuse(Type *t, PyObject *v, Py_ssize_t i)
{
    PyObject *r = short_repr(v);
    if (r != NULL && i != NO_INDEX) {
        PyErr_Format(PyExc_TypeError, "cannot use %U (%.100s) as %S value at index %zd", r,
                     Py_TYPE(v)->tp_name, t, i);
    }
    else if (r != NULL) {
        PyErr_Format(PyExc_TypeError, "cannot use %U (%.100s) as %S value", r, Py_TYPE(v)->tp_name,
                     t);
    }
    Py_XDECREF(r);
    return -1;
}

static int
overflow(Type *t, PyObject *v, Py_ssize_t i)
{
    PyObject *r = short_repr(v), *where = NULL, *range = NULL;
    if (r != NULL) {
        where = i != NO_INDEX ? PyUnicode_FromFormat(" at index %zd", i) : PyUnicode_New(0, 0);
        range = is_int(t) ? PyUnicode_FromFormat(" (%lld to %llu)", (long long)t->min,
                                                 (unsigned long long)t->max)
                          : PyUnicode_New(0, 0);
    }
    if (where != NULL && range != NULL) {
        PyErr_Format(PyExc_OverflowError, "%U overflows %s%U%U", r,
                     t->kind == K_UINT8 ? "byte, uint8" : t->name, range, where);
    }
    Py_XDECREF(r);
    Py_XDECREF(where);
    Py_XDECREF(range);
    return -1;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static void
put_int(const Type *t, char *p, uint64_t bits)
{
    switch (t->size) {
    case 1:
        *(uint8_t *)p = (uint8_t)bits;
        return;
    case 2:
        *(uint16_t *)p = (uint16_t)bits;
        return;
    case 4:
        *(uint32_t *)p = (uint32_t)bits;
        return;
    default:
        *(uint64_t *)p = bits;
    }
}

/* 0; 1: it does not fit 64 bits; -1 with an exception. */
static int
int_bits(const Type *t, PyObject *n, uint64_t *bits)
{
    int over;
    long long x = PyLong_AsLongLongAndOverflow(n, &over);
    if (UNLIKELY(x == -1 && PyErr_Occurred())) {
        return -1;
    }
    *bits = (uint64_t)x;
    if (LIKELY(!over)) {
        return t->kind == K_UINT64 ? x < 0 : x < t->min || (x > 0 && (uint64_t)x > t->max);
    }
    if (over < 0 || t->kind != K_UINT64) {
        return 1;
    }
    *bits = PyLong_AsUnsignedLongLong(n);
    if (*bits == (uint64_t)-1 && PyErr_Occurred()) {
        PyErr_Clear();
        return 1;
    }
    return 0;
}

static NOINLINE int
store_index(Type *t, char *p, PyObject *v, Py_ssize_t i)
{
    if (!PyIndex_Check(v)) {
        return refuse(t, v, i);
    }
    PyObject *n = PyNumber_Index(v);
    if (n == NULL) {
        return -1;
    }
    int r = elem_store(t, NULL, p, n, i);
    Py_DECREF(n);
    return r;
}

static inline int
store_int(Type *t, char *p, PyObject *v, Py_ssize_t i)
{
    uint64_t bits;
    if (UNLIKELY(!PyLong_Check(v))) {
        return store_index(t, p, v, i);
    }
    int r = int_bits(t, v, &bits);
    if (UNLIKELY(r != 0)) {
        return r < 0 ? -1 : overflow(t, v, i);
    }
    put_int(t, p, bits);
    return 0;
}

static int
store_float(Type *t, char *p, PyObject *v, Py_ssize_t i)
{
    if (!PyFloat_Check(v) && !PyIndex_Check(v) &&
        (Py_TYPE(v)->tp_as_number == NULL || Py_TYPE(v)->tp_as_number->nb_float == NULL)) {
        return refuse(t, v, i);
    }
    double x = PyFloat_AsDouble(v);
    if (x == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    if (t->kind == K_FLOAT64) {
        *(double *)p = x;
        return 0;
    }
    float f = (float)x;
    if (isinf(f) && !isinf(x)) {
        return overflow(t, v, i);
    }
    *(float *)p = f;
    return 0;
}

/* ---- references ---------------------------------------------------------------------------------- */

/* A new reference, or NULL for the zero value. */
PyObject *
ref_load(Block *s, char *p)
{
    LOCK(&s->mu);
    PyObject *v = Py_XNewRef(*(PyObject **)p);
    UNLOCK(&s->mu);
    return v;
}

/* Takes the reference v; drops the one that was there. */
static void
ref_store(Block *s, char *p, PyObject *v)
{
    LOCK(&s->mu);
    PyObject *old = *(PyObject **)p;
    *(PyObject **)p = v;
    UNLOCK(&s->mu);
    Py_XDECREF(old);
}

/* 1, 0, -1: may v, not None, be an element? */
static int
ref_fits(Type *t, PyObject *v)
{
    switch (t->kind) {
    case K_STRING:
        return PyUnicode_Check(v);
    case K_SLICE:
    case K_POINTER:
        return (PyObject *)Py_TYPE(v) == type_origin(t) && type_equal(((Header *)v)->type, t);
    case K_MAP:
        return Py_TYPE(v) == &Map_Type && type_equal(((Map *)v)->type, t);
    default:
        if (t->cls == (PyObject *)Py_TYPE(v) || t->cls == (PyObject *)&PyBaseObject_Type) {
            return 1;
        }
        return PyObject_IsInstance(v, t->cls);
    }
}

static int
ref_check(Type *t, PyObject *v, Py_ssize_t i)
{
    if (v == Py_None && t->kind != K_STRING) {
        return 0; /* Go's nil */
    }
    int fits = ref_fits(t, v);
    return fits > 0 ? 0 : fits < 0 ? -1 : refuse(t, v, i);
}

PyObject *
elem_zero(Type *t)
{
    switch (t->kind) {
    case K_STRING:
        return PyUnicode_New(0, 0);
    case K_SLICE:
        return slice_new(t, NULL, nothing, 0, 0);
    case K_MAP:
        return map_nil(t);
    case K_ARRAY:
        return array_make(t, NULL);
    case K_OBJECT:
    case K_POINTER:
        return Py_NewRef(Py_None);
    default: {
        uint64_t zero = 0;
        return elem_load(t, NULL, (char *)&zero);
    }
    }
}

/* ---- arrays inside ------------------------------------------------------------------------------ */

/* An array's value is copied.  A list or a tuple counts as what Go writes in braces. */
static int
store_array(Type *t, Block *s, char *p, PyObject *v, Py_ssize_t i)
{
    PyObject *a = NULL;
    if (Py_TYPE(v) == &Array_Type && type_equal(((Array *)v)->type, t)) {
        a = Py_NewRef(v);
    }
    else if (PyList_Check(v) || PyTuple_Check(v)) {
        a = array_make(t, v);
    }
    else {
        refuse(t, v, i);
    }
    if (a == NULL) {
        return -1;
    }
    elem_move(t, s, p, ((Array *)a)->block, ((Array *)a)->data, 1);
    Py_DECREF(a);
    return 0;
}

/* ---- one element ---------------------------------------------------------------------------------- */

/* A new reference.  Of an array: a view of it. */
PyObject *
elem_load(Type *t, Block *s, char *p)
{
    switch (t->kind) {
    case K_INT8:
        return PyLong_FromLong(*(int8_t *)p);
    case K_INT16:
        return PyLong_FromLong(*(int16_t *)p);
    case K_INT32:
        return PyLong_FromLong(*(int32_t *)p);
    case K_INT64:
        return PyLong_FromLongLong(*(int64_t *)p);
    case K_UINT8:
        return PyLong_FromLong(*(uint8_t *)p);
    case K_UINT16:
        return PyLong_FromLong(*(uint16_t *)p);
    case K_UINT32:
        return PyLong_FromUnsignedLong(*(uint32_t *)p);
    case K_UINT64:
        return PyLong_FromUnsignedLongLong(*(uint64_t *)p);
    case K_FLOAT32:
        return PyFloat_FromDouble(*(float *)p);
    case K_FLOAT64:
        return PyFloat_FromDouble(*(double *)p);
    case K_BOOL:
        return PyBool_FromLong(*(uint8_t *)p != 0); /* a buffer's user may write any byte */
    case K_ARRAY:
        return array_view(t, s, p);
    default: {
        PyObject *v = ref_load(s, p);
        return v != NULL ? v : elem_zero(t);
    }
    }
}

/* 0, or -1 with an exception and nothing stored. */
int
elem_store(Type *t, Block *s, char *p, PyObject *v, Py_ssize_t i)
{
    if (s != NULL) {
        block_wrote(s, p + t->size);
    }
    if (is_int(t)) {
        return store_int(t, p, v, i);
    }
    switch (t->kind) {
    case K_FLOAT32:
    case K_FLOAT64:
        return store_float(t, p, v, i);
    case K_BOOL:
        if (!PyBool_Check(v)) {
            return refuse(t, v, i);
        }
        *(uint8_t *)p = v == Py_True;
        return 0;
    case K_ARRAY:
        return store_array(t, s, p, v, i);
    default:
        if (ref_check(t, v, i) < 0) {
            return -1;
        }
        ref_store(s, p, v != Py_None ? Py_NewRef(v) : NULL);
        return 0;
    }
}

/* v as it would be read after it was stored: what a Map keeps.  A new reference. */
PyObject *
elem_canonical(Type *t, PyObject *v)
{
    uint64_t place;
    if (t->kind == K_ARRAY) {
        Array *a = (Array *)array_make(t, NULL);
        if (a != NULL && store_array(t, a->block, a->data, v, NO_INDEX) < 0) {
            Py_CLEAR(a);
        }
        return (PyObject *)a;
    }
    if (holds_ref(t)) {
        if (ref_check(t, v, NO_INDEX) < 0) {
            return NULL;
        }
        return v != Py_None ? Py_NewRef(v) : elem_zero(t);
    }
    return elem_store(t, NULL, (char *)&place, v, NO_INDEX) < 0
               ? NULL
               : elem_load(t, NULL, (char *)&place);
}

/* ---- several ------------------------------------------------------------------------------------------ */

static Py_ssize_t
refs_in(const Type *t, Py_ssize_t n)
{
    return n * (t->size / (Py_ssize_t)sizeof(PyObject *));
}

static void
move_ref(Block *to, char *p, Block *from, char *q)
{
    ref_store(to, p, ref_load(from, q));
}

/* As memmove: the two may overlap. */
void
elem_move(Type *t, Block *to, char *p, Block *from, char *q, Py_ssize_t n)
{
    const Py_ssize_t w = sizeof(PyObject *);
    if (!t->has_refs) {
        if (n > 0 && t->size > 0) {
            memmove(p, q, (size_t)(n * t->size));
            block_wrote(to, p + n * t->size);
        }
        return;
    }
    Py_ssize_t refs = refs_in(t, n);
    if (p <= q) {
        for (Py_ssize_t k = 0; k < refs; k++) {
            move_ref(to, p + k * w, from, q + k * w);
        }
        return;
    }
    for (Py_ssize_t k = refs - 1; k >= 0; k--) {
        move_ref(to, p + k * w, from, q + k * w);
    }
}

void
elem_clear(Type *t, Block *s, char *p, Py_ssize_t n)
{
    if (!t->has_refs) {
        memset(p, 0, (size_t)(n * t->size));
        return;
    }
    for (Py_ssize_t k = 0; k < refs_in(t, n); k++) {
        ref_store(s, p + k * (Py_ssize_t)sizeof(PyObject *), NULL);
    }
}

static int
refs_equal(Type *t, Block *s, char *p, Block *r, char *q)
{
    PyObject *a = elem_load(t, s, p), *b = elem_load(t, r, q);
    int equal = a != NULL && b != NULL ? PyObject_RichCompareBool(a, b, Py_EQ) : -1;
    Py_XDECREF(a);
    Py_XDECREF(b);
    return equal;
}

static int
one_equal(Type *t, Block *s, char *p, Block *r, char *q)
{
    switch (t->kind) {
    case K_FLOAT32:
        return *(float *)p == *(float *)q;
    case K_FLOAT64:
        return *(double *)p == *(double *)q;
    case K_ARRAY:
        return elem_equal(t->sub, s, p, r, q, t->n);
    default:
        return refs_equal(t, s, p, r, q);
    }
}

/* 1, 0, or -1 with an exception. */
int
elem_equal(Type *t, Block *s, char *p, Block *r, char *q, Py_ssize_t n)
{
    if (is_int(t)) {
        return memcmp(p, q, (size_t)(n * t->size)) == 0;
    }
    int equal = 1;
    if (t->size == 0) {
        return 1; /* however many of them */
    }
    for (Py_ssize_t k = 0; k < n && equal > 0; k++) {
        equal = one_equal(t, s, p + k * t->size, r, q + k * t->size);
    }
    return equal;
}

/* ---- conversions: int32(x), string(x) -------------------------------------------------------------------- */

static PyObject *
convert_int(Type *t, PyObject *v)
{
    uint64_t place = 0;
    PyObject *n = PyFloat_Check(v) ? PyNumber_Long(v) : PyNumber_Index(v);
    if (n == NULL) {
        return NULL;
    }
    uint64_t bits = PyLong_AsUnsignedLongLongMask(n);
    Py_DECREF(n);
    if (bits == (uint64_t)-1 && PyErr_Occurred()) {
        return NULL;
    }
    put_int(t, (char *)&place, bits);
    return elem_load(t, NULL, (char *)&place);
}

static PyObject *
convert_float(Type *t, PyObject *v)
{
    if (PyUnicode_Check(v) || PyBytes_Check(v)) {
        refuse(t, v, NO_INDEX);
        return NULL;
    }
    double x = PyFloat_AsDouble(v);
    if (x == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    return PyFloat_FromDouble(t->kind == K_FLOAT32 ? (float)x : x);
}

/* A byte that is no UTF-8 becomes a lone surrogate, and elem_utf8 makes it the same byte. */
static PyObject *
convert_string(Type *t, PyObject *v)
{
    Py_buffer view;
    if (PyUnicode_Check(v)) {
        return Py_NewRef(v);
    }
    int n = PyObject_CheckBuffer(v) ? elements_of(v, &basic[K_UINT8], &view) : 0;
    if (n == 0) {
        refuse(t, v, NO_INDEX);
    }
    if (n <= 0) {
        return NULL;
    }
    PyObject *s = PyUnicode_DecodeUTF8(view.buf, view.len, "surrogateescape");
    PyBuffer_Release(&view);
    return s;
}

PyObject *
elem_utf8(PyObject *str)
{
    return PyUnicode_AsEncodedString(str, "utf-8", "surrogateescape");
}

/* Go's T(v): ints wrap around, floats are cut, bytes become a string. */
PyObject *
elem_convert(Type *t, PyObject *v)
{
    if (is_int(t)) {
        return convert_int(t, v);
    }
    switch (t->kind) {
    case K_FLOAT32:
    case K_FLOAT64:
        return convert_float(t, v);
    case K_BOOL: {
        int truth = PyObject_IsTrue(v);
        return truth < 0 ? NULL : PyBool_FromLong(truth);
    }
    default:
        return convert_string(t, v);
    }
}
