/* SPDX-License-Identifier: MIT
 *
 * block.c: blocks of elements, and what the headers that show them share.
 *
 * A Block is an object of its own, not part of the first header: slices of it outlive
 * one another, and what the collector sees must own its references once.
 *
 * `append` makes a header for each call, `make` a header and a block, so on builds with
 * a GIL both come from free lists; what is in those is untracked, and has no references.
 * Free-threaded builds have a fast allocator for each thread already.
 */
#include "memory.h"

_Alignas(16) char nothing[16];

/* ---- free lists ---------------------------------------------------------------------------------- */

#ifdef Py_GIL_DISABLED
#define FREE_LIST(name)
#define TAKE_FREE(name, type) NULL
#define KEEP_FREE(name, o) false
#else
#define KEPT 256
typedef struct {
    PyObject *v[KEPT];
    int n;
} FreeList;

static FreeList free_blocks, free_slices;

static inline PyObject *
take_free(FreeList *list, PyTypeObject *type)
{
    return LIKELY(list->n > 0) ? PyObject_Init(list->v[--list->n], type) : NULL;
}

static inline bool
keep_free(FreeList *list, PyObject *o)
{
    if (UNLIKELY(list->n == KEPT)) {
        return false;
    }
    list->v[list->n++] = o;
    return true;
}
#define TAKE_FREE(name, type) take_free(&name, type)
#define KEEP_FREE(name, o) keep_free(&name, o)
#endif

/* ---- blocks ------------------------------------------------------------------------------------------ */

static NOINLINE Block *
block_alloc(void)
{
    return PyObject_GC_New(Block, &Block_Type);
}

/* n elements, zeroed if that is asked or they are references.  NULL with MemoryError. */
Block *
block_new(Type *elem, Py_ssize_t n, bool zero)
{
    Py_ssize_t bytes;
    if (__builtin_mul_overflow(n, elem->size, &bytes) || bytes > MAX_BYTES) {
        PyErr_NoMemory();
        return NULL;
    }
    char *data = bytes > 0 ? mem_alloc((size_t)bytes, zero || elem->has_refs) : nothing;
    Block *s = data != NULL ? (Block *)TAKE_FREE(free_blocks, &Block_Type) : NULL;
    if (UNLIKELY(s == NULL) && (data == NULL || (s = block_alloc()) == NULL)) {
        if (data != NULL && data != nothing) {
            mem_free(data);
        }
        PyErr_NoMemory();
        return NULL;
    }
    s->data = data;
    s->nrefs = elem->has_refs ? bytes / (Py_ssize_t)sizeof(PyObject *) : 0;
    memset(&s->mu, 0, sizeof(s->mu));
    atomic_store_explicit(&s->dirty, zero && bytes > LARGE ? 0 : SIZE_MAX, memory_order_relaxed);
    if (s->nrefs > 0) {
        PyObject_GC_Track(s);
    }
    return s;
}

static int
Block_traverse(Block *s, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < s->nrefs; i++) {
        Py_VISIT(((PyObject **)s->data)[i]);
    }
    return 0;
}

static int
Block_clear(Block *s)
{
    for (Py_ssize_t i = 0; i < s->nrefs; i++) {
        PyObject **p = (PyObject **)s->data + i;
        LOCK(&s->mu);
        PyObject *old = *p;
        *p = NULL;
        UNLOCK(&s->mu);
        Py_XDECREF(old);
    }
    return 0;
}

static void
block_free(Block *s)
{
    if (s->data != nothing) {
        mem_free_clean(s->data, atomic_load_explicit(&s->dirty, memory_order_relaxed));
    }
    if (!KEEP_FREE(free_blocks, (PyObject *)s)) {
        PyObject_GC_Del(s);
    }
}

static void Block_dealloc(Block *s);

static NOINLINE void
block_dealloc_refs(Block *s)
{
    PyObject_GC_UnTrack(s);
    Py_TRASHCAN_BEGIN(s, Block_dealloc) Block_clear(s);
    block_free(s);
    Py_TRASHCAN_END
}

static void
Block_dealloc(Block *s)
{
    if (s->nrefs > 0) {
        block_dealloc_refs(s);
    }
    else {
        block_free(s);
    }
}

PyTypeObject Block_Type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "goroutines.memory.Block",
    .tp_basicsize = sizeof(Block),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)Block_traverse,
    .tp_clear = (inquiry)Block_clear,
    .tp_dealloc = (destructor)Block_dealloc,
};

/* ---- headers --------------------------------------------------------------------------------------------- */

static inline void
header_init(Header *h, Type *type, Block *block, char *data)
{
    h->type = (Type *)Py_NewRef((PyObject *)type);
    h->block = (Block *)Py_XNewRef((PyObject *)block);
    h->data = data;
}

PyObject *
header_new(PyTypeObject *cls, Type *type, Block *block, char *data)
{
    Header *h = PyObject_GC_New(Header, cls);
    if (h == NULL) {
        return NULL;
    }
    header_init(h, type, block, data);
    if (type->sub->has_refs) {
        PyObject_GC_Track(h);
    }
    return (PyObject *)h;
}

static NOINLINE PyObject *
slice_alloc(void)
{
    return (PyObject *)PyObject_GC_New(Slice, &Slice_Type);
}

PyObject *
slice_new(Type *type, Block *block, char *data, Py_ssize_t len, Py_ssize_t cap)
{
    PyObject *o = TAKE_FREE(free_slices, &Slice_Type);
    if (UNLIKELY(o == NULL) && (o = slice_alloc()) == NULL) {
        return NULL;
    }
    Slice *s = (Slice *)o;
    header_init(&s->h, type, block, data);
    s->len = len;
    s->cap = cap;
    if (UNLIKELY(type->sub->has_refs)) {
        PyObject_GC_Track(o);
    }
    return o;
}

int
header_traverse(Header *h, visitproc visit, void *arg)
{
    Py_VISIT(h->type);
    Py_VISIT(h->block);
    return 0;
}

/* No tp_clear: the block in a cycle is what gives way. */
void
header_dealloc(Header *h)
{
    if (h->type->sub->has_refs) {
        PyObject_GC_UnTrack(h);
    }
    Type *type = h->type;
    Block *block = h->block;
    if (!is_slice((PyObject *)h) || !KEEP_FREE(free_slices, (PyObject *)h)) {
        PyObject_GC_Del(h);
    }
    Py_XDECREF(block);
    Py_DECREF(type);
}

/* ---- what Python does better: texts, pickling --------------------------------------------------------------- */

/* A function of goroutines._values: a new reference. */
static PyObject *
helper(const char *name)
{
    PyObject *mod = PyImport_ImportModule("goroutines._values");
    PyObject *fn = mod != NULL ? PyObject_GetAttrString(mod, name) : NULL;
    Py_XDECREF(mod);
    return fn;
}

static PyObject *
text_of(PyObject *o, const char *how)
{
    int inside = Py_ReprEnter(o);
    if (inside != 0) {
        return inside > 0 ? PyUnicode_FromString("...") : NULL;
    }
    PyObject *fn = helper(how);
    PyObject *text = fn != NULL ? PyObject_CallOneArg(fn, o) : NULL;
    Py_XDECREF(fn);
    Py_ReprLeave(o);
    return text;
}

PyObject *
value_repr(PyObject *o)
{
    return text_of(o, "represent");
}

PyObject *
value_str(PyObject *o)
{
    return text_of(o, "text");
}

/* Its elements: what holds references is made first and filled then, for it may hold
 * itself.  A new reference. */
static PyObject *
content(PyObject *o, Type *type)
{
    if (Py_TYPE(o) == &Pointer_Type) {
        PyObject *v = elem_load(type->sub, ((Header *)o)->block, ((Header *)o)->data);
        return v != NULL ? Py_BuildValue("(N)", v) : NULL;
    }
    return type->sub->has_refs ? span_tuple(o) : PyBytes_FromObject(o);
}

PyObject *
header_reduce(PyObject *o, PyObject *unused)
{
    (void)unused;
    Type *type = ((Header *)o)->type;
    Py_ssize_t n = Py_TYPE(o) != &Pointer_Type ? PyObject_Length(o) : 1;
    PyObject *rebuild = helper("rebuild"), *elements = content(o, type), *result = NULL;
    if (rebuild != NULL && elements != NULL) {
        result = Py_BuildValue(PyTuple_Check(elements) ? "O(On)O" : "O(OnO)", rebuild, type, n,
                               elements);
    }
    Py_XDECREF(rebuild);
    Py_XDECREF(elements);
    return result;
}

PyObject *
header_setstate(PyObject *o, PyObject *state)
{
    Header *h = (Header *)o;
    Span span;
    if (!span_of(o, &span)) {
        span = (Span){h->type->sub, h->block, h->data, 1, 1};
    }
    if (!PyTuple_Check(state)) {
        PyErr_SetString(PyExc_TypeError, "__setstate__ takes a tuple of elements");
        return NULL;
    }
    if (span_fill_items(span, &PyTuple_GET_ITEM(state, 0), PyTuple_GET_SIZE(state), "state") < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

int
values_init(void)
{
    return PyType_Ready(&Block_Type) < 0 || PyType_Ready(&SpanIter_Type) < 0 ? -1 : 0;
}
