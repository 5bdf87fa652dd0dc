/* SPDX-License-Identifier: MIT
 *
 * pointer.c: Pointer[T], what new(T) returns.  Two are equal if they point to the same
 * place, as in Go.
 */
#include "memory.h"

/* A pointer to a zeroed place; `type` is Pointer[T]. */
PyObject *
pointer_make(Type *type)
{
    Block *block = block_new(type->sub, 1, true);
    if (block == NULL) {
        return NULL;
    }
    PyObject *p = header_new(&Pointer_Type, type, block, block->data);
    Py_DECREF(block);
    return p;
}

static PyObject *
Pointer_get_value(Pointer *p, void *unused)
{
    (void)unused;
    return elem_load(p->type->sub, p->block, p->data);
}

static int
Pointer_set_value(Pointer *p, PyObject *v, void *unused)
{
    (void)unused;
    if (v == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a Pointer's value cannot be deleted");
        return -1;
    }
    return elem_store(p->type->sub, p->block, p->data, v, NO_INDEX);
}

/* What has no size has no place of its own: then the block tells them apart. */
static const void *
place_of(Pointer *p)
{
    return p->data != nothing ? (const void *)p->data : (const void *)p->block;
}

static PyObject *
Pointer_compare(PyObject *a, PyObject *b, int op)
{
    if (Py_TYPE(b) != &Pointer_Type || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Pointer *p = (Pointer *)a, *q = (Pointer *)b;
    bool same = place_of(p) == place_of(q) && type_equal(p->type, q->type);
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
Pointer_hash(PyObject *o)
{
    return (Py_hash_t)((uintptr_t)place_of((Pointer *)o) >> 3);
}

static PyObject *
Pointer_get_type(PyObject *o, void *unused)
{
    (void)unused;
    return Py_NewRef((PyObject *)((Pointer *)o)->type);
}

static PyMethodDef Pointer_methods[] = {
    METHOD("__reduce__", header_reduce, METH_NOARGS, NULL),
    METHOD("__setstate__", header_setstate, METH_O, NULL),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Pointer_getset[] = {
    {"value", (getter)Pointer_get_value, (setter)Pointer_set_value,
     PyDoc_STR("What is pointed to, Go's *p.  An array is the array itself, not a copy.\n"
               "Raises TypeError and OverflowError for what does not fit the type."),
     NULL},
    {"_type", Pointer_get_type, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyTypeObject Pointer_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Pointer",
    .tp_doc = PyDoc_STR("Pointer[T]: where a value of type T is; made by new(T)."),
    .tp_basicsize = sizeof(Pointer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_repr = value_repr,
    .tp_hash = Pointer_hash,
    .tp_richcompare = Pointer_compare,
    .tp_traverse = (traverseproc)header_traverse,
    .tp_dealloc = (destructor)header_dealloc,
    .tp_methods = Pointer_methods,
    .tp_getset = Pointer_getset,
};
