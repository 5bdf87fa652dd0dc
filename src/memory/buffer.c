/* SPDX-License-Identifier: MIT
 *
 * buffer.c: the buffer protocol, both ways: slices and arrays of numbers as buffers, and
 * buffers as elements.
 *
 * A view keeps its header, which keeps the block; append never moves what there is a view
 * of: it makes a new block, as in Go, and the view goes on showing the old one.
 */
#include "memory.h"

static Type *
leaf_of(Type *t)
{
    while (t->kind == K_ARRAY) {
        t = t->sub;
    }
    return t;
}

static int
dimensions(const Type *t)
{
    int n = 1;
    for (; t->kind == K_ARRAY; t = t->sub) {
        n++;
    }
    return n;
}

/* Arrays in it are further dimensions: shape and strides are made for the view. */
static int
shape_of(const Span *a, Py_buffer *view)
{
    view->ndim = dimensions(a->elem);
    Py_ssize_t *both = PyMem_Malloc((size_t)view->ndim * 2 * sizeof(Py_ssize_t));
    if (both == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t *shape = both, *strides = both + view->ndim;
    shape[0] = a->len;
    Type *t = a->elem;
    for (int i = 0; i < view->ndim; i++) {
        strides[i] = t->size;
        if (t->kind == K_ARRAY) {
            shape[i + 1] = t->n;
            t = t->sub;
        }
    }
    view->internal = both;
    view->shape = shape;
    view->strides = strides;
    return 0;
}

int
span_getbuffer(PyObject *o, Py_buffer *view, int flags)
{
    Span a;
    span_of(o, &a);
    Type *leaf = leaf_of(a.elem);
    view->obj = NULL;
    if (leaf->has_refs) {
        PyErr_Format(PyExc_BufferError, "%S holds references: only numbers are a buffer",
                     ((Header *)o)->type);
        return -1;
    }
    if (dimensions(a.elem) > PyBUF_MAX_NDIM) {
        PyErr_SetString(PyExc_BufferError, "too many dimensions for a buffer");
        return -1;
    }
    view->internal = NULL;
    view->ndim = 1;
    view->shape = view->strides = view->suboffsets = NULL;
    if ((flags & PyBUF_ND) && shape_of(&a, view) < 0) {
        return -1;
    }
    if ((flags & PyBUF_STRIDES) != PyBUF_STRIDES) {
        view->strides = NULL;
    }
    if (dimensions(a.elem) > 1 && (flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS &&
        (flags & PyBUF_ANY_CONTIGUOUS) != PyBUF_ANY_CONTIGUOUS) {
        PyMem_Free(view->internal);
        PyErr_SetString(PyExc_BufferError, "the elements do not lie in Fortran's order");
        return -1;
    }
    if (a.len * a.elem->size > 0) {
        block_wrote(a.block, a.data + a.len * a.elem->size); /* by whoever has the view */
    }
    view->buf = a.data;
    view->len = a.len * a.elem->size;
    view->itemsize = leaf->size;
    view->readonly = 0;
    view->format = flags & PyBUF_FORMAT ? leaf->format : NULL;
    view->obj = Py_NewRef(o);
    return 0;
}

void
span_releasebuffer(PyObject *o, Py_buffer *view)
{
    (void)o;
    PyMem_Free(view->internal);
}

/* ---- from buffers ----------------------------------------------------------------------------------------- */

/* Do a buffer's items mean the same?  l and q are both 64 bits here, as c and B are bytes. */
static bool
same_format(const Py_buffer *view, const Type *t)
{
    const char *f = view->format != NULL ? view->format : "B";
    if (*f == '@' || *f == '=' || *f == '<') { /* little-endian machines only */
        f++;
    }
    if (f[0] == '\0' || f[1] != '\0' || view->itemsize != t->size) {
        return false;
    }
    char c = f[0] == 'l' || f[0] == 'n' ? 'q' : f[0] == 'L' || f[0] == 'N' ? 'Q' : f[0];
    return c == t->format[0] || (c == 'c' && t->format[0] == 'B');
}

/* A str as UTF-8, its bytes object being what the view owns. */
static int
utf8_view(PyObject *str, Py_buffer *view)
{
    PyObject *bytes = elem_utf8(str);
    int r = bytes != NULL ? PyObject_GetBuffer(bytes, view, PyBUF_SIMPLE) : -1;
    Py_XDECREF(bytes);
    return r < 0 ? -1 : 1;
}

/* Whether o is a buffer of elements of this type, in a row (for bytes: or a str): 1, and
 * the view is to be released; 0: it is not; -1 with an exception. */
int
elements_of(PyObject *o, Type *elem, Py_buffer *view)
{
    if (elem->kind == K_UINT8 && PyUnicode_Check(o)) {
        return utf8_view(o, view);
    }
    if (elem->format[0] == '\0' || !PyObject_CheckBuffer(o)) {
        return 0;
    }
    if (PyObject_GetBuffer(o, view, PyBUF_FULL_RO) < 0) {
        if (PyErr_ExceptionMatches(PyExc_BufferError)) {
            PyErr_Clear();
            return 0;
        }
        return -1;
    }
    if (view->ndim == 1 && same_format(view, elem) && PyBuffer_IsContiguous(view, 'C')) {
        return 1;
    }
    PyBuffer_Release(view);
    return 0;
}
