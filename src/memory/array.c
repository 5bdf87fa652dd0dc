/* SPDX-License-Identifier: MIT
 *
 * array.c: Array[T, n], n elements whose number is part of the type.
 *
 * As values they are copied where Go copies them and Python can: into a slot of another
 * array, a slice or a map, and out of a map.  Python's assignment gives the same array a
 * second name, so what an index or a Pointer gives is a view: grid[1][2] = x stores.
 */
#include "memory.h"

PyObject *
array_view(Type *type, Block *block, char *data)
{
    return header_new(&Array_Type, type, block, data);
}

static Array *
array_new(Type *type)
{
    Block *block = block_new(type, 1, true);
    if (block == NULL) {
        return NULL;
    }
    PyObject *a = array_view(type, block, block->data);
    Py_DECREF(block);
    return (Array *)a;
}

static PyObject *
too_many(Type *type, Py_ssize_t n)
{
    PyErr_Format(PyExc_IndexError, "index %zd is out of bounds for %S, given %zd values", type->n,
                 type, n);
    return NULL;
}

/* The first values of what is zero otherwise, as in Go's braces. */
static int
fill_front(Array *a, PyObject *all)
{
    Span to = array_span(a);
    Py_ssize_t n = PyTuple_GET_SIZE(all);
    if (n > to.len) {
        too_many(a->type, n);
        return -1;
    }
    to.len = n;
    return span_fill(to, all, "assignment");
}

static int
fill_array(Array *a, PyObject *values)
{
    Span from;
    if (span_of(values, &from) || (!PyList_Check(values) && !PyTuple_Check(values) &&
                                   (PyObject_CheckBuffer(values) || PyUnicode_Check(values)))) {
        return span_fill(array_span(a), values, "an array");
    }
    PyObject *all = PySequence_Tuple(values);
    int r = all != NULL ? fill_front(a, all) : -1;
    Py_XDECREF(all);
    return r;
}

/* An array of `values`, or of zeros. */
PyObject *
array_make(Type *type, PyObject *values)
{
    Array *a = array_new(type);
    if (a != NULL && values != NULL && fill_array(a, values) < 0) {
        Py_CLEAR(a);
    }
    return (PyObject *)a;
}

PyObject *
array_copy(Array *a)
{
    Array *b = array_new(a->type);
    if (b != NULL) {
        elem_move(a->type, b->block, b->data, a->block, a->data, 1);
    }
    return (PyObject *)b;
}

/* ---- the Python type --------------------------------------------------------------------------------- */

static Py_ssize_t
Array_len(PyObject *o)
{
    return ((Array *)o)->type->n;
}

static Py_hash_t
Array_hash(PyObject *o)
{
    if (Py_EnterRecursiveCall(" while hashing an array")) {
        return -1;
    }
    PyObject *all = span_tuple(o);
    Py_hash_t h = all != NULL ? PyObject_Hash(all) : -1;
    Py_XDECREF(all);
    Py_LeaveRecursiveCall();
    return h;
}

static PyObject *
Array_copy(PyObject *o, PyObject *unused)
{
    (void)unused;
    return array_copy((Array *)o);
}

static PyObject *
Array_get_type(PyObject *o, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)((Array *)o)->type);
}

static PyMethodDef Array_methods[] = {
    METHOD("__copy__", Array_copy, METH_NOARGS, PyDoc_STR("A copy: the same elements apart.")),
    METHOD("__reduce__", header_reduce, METH_NOARGS, NULL),
    METHOD("__setstate__", header_setstate, METH_O, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Array_getset[] = {
    {"_type", Array_get_type, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMappingMethods Array_mapping = {Array_len, span_get, span_set};
static PySequenceMethods Array_sequence = {.sq_length = Array_len, .sq_item = span_item};
static PyBufferProcs Array_buffer = {span_getbuffer, span_releasebuffer};

PyTypeObject Array_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Array",
    .tp_doc = PyDoc_STR(
        "Array[T, n]: n elements of type T, as Go's [n]T.  Array[int32, 3]() is zeroed,\n"
        "Array[int32, 3](values) has these, and zeros for those that are missing.\n\n"
        "Compared by value, hashed by value if T can be; a[i:j] is a slice that shares the\n"
        "elements; copy.copy(a) copies them.  Raises IndexError, worded as Go does, out of\n"
        "range, TypeError and OverflowError for what does not fit the element type."),
    .tp_basicsize = sizeof(Array),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_SEQUENCE,
    .tp_repr = value_repr,
    .tp_str = value_str,
    .tp_hash = Array_hash,
    .tp_richcompare = span_compare,
    .tp_iter = span_iter,
    .tp_as_mapping = &Array_mapping,
    .tp_as_sequence = &Array_sequence,
    .tp_as_buffer = &Array_buffer,
    .tp_traverse = (traverseproc)header_traverse,
    .tp_dealloc = (destructor)header_dealloc,
    .tp_methods = Array_methods,
    .tp_getset = Array_getset,
};
