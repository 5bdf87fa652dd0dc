/* SPDX-License-Identifier: MIT
 *
 * memory.h: the values of goroutines.memory, as Go has them.
 *
 *   Type     what a value is: int32, a class, Slice[int32], Array[byte, 4].  Immutable.
 *   Block    a block of elements, from the allocator; freed with its last reference.
 *   Array, Slice, Pointer   headers: immutable, each with a reference to its Block and an
 *            address inside it.  Only elements change.  An Array inside an array, or behind
 *            a Pointer, is a view: its block is the outer one's.
 *   Map      typed keys and values over a dict.
 *
 * An element is either a number, stored as C stores it, or a reference: an owned
 * PyObject *, or NULL, which stands for the type's zero value, so that zeroed memory is
 * all zero values.  Arrays lie flat.  Which of the two is settled by the type (has_refs):
 * no block holds both.
 *
 * Locks: a Block's mu guards the references in it, for as long as it takes to exchange
 * one; a leaf, nothing is called under it.  Numbers need none: whoever races gets one of
 * the values, as in Go.  Headers and Types never change.
 *
 * Only what holds references is tracked by the collector.
 */
#ifndef GOROUTINES_MEMORY_H
#define GOROUTINES_MEMORY_H

#include "malloc.h"
#include "runtime.h"

#define MAX_BYTES ((Py_ssize_t)1 << 48) /* Go's maxAlloc: what no machine has */
#define LARGE 32768 /* bytes from which on the allocator takes whole pages */
#define NO_INDEX (-1)
#define MAX_DEPTH 100 /* of types in types: code may recurse over them */

/* The order matters: see is_int, holds_ref. */
typedef enum {
    K_INT8,
    K_INT16,
    K_INT32,
    K_INT64,
    K_UINT8,
    K_UINT16,
    K_UINT32,
    K_UINT64,
    K_FLOAT32,
    K_FLOAT64,
    K_BOOL,
    K_STRING,
    K_OBJECT, /* of a class */
    K_SLICE,
    K_MAP,
    K_POINTER,
    K_ARRAY,
} Kind;

typedef struct Type Type;
struct Type {
    PyObject_HEAD
    Kind kind;
    char format[2]; /* of a number: struct's code, else empty */
    bool has_refs; /* elements are, or consist of, references */
    bool forever;  /* int32 and its like, Slice and Pointer of them: static */
    Py_ssize_t size;    /* of an element in a Block, in bytes */
    Py_ssize_t go_size; /* of an element in Go, which growth goes by */
    int64_t min;        /* of an int */
    uint64_t max;
    const char *name; /* of a basic type, else NULL */
    int depth;        /* how many types it is made of, one in the other */
    Py_ssize_t n;     /* an array's length */
    Type *sub;        /* owned: of elements, a map's values, what is pointed to; or NULL */
    Type *key;        /* owned: of a map's keys, or NULL */
    PyObject *cls;    /* owned: a class, or what isinstance takes for one; K_OBJECT's */
    Type *slice_of, *pointer_to; /* owned: Slice[this], Pointer[this]; NULL unless basic */
};

typedef struct {
    PyObject_HEAD
    char *data;       /* mem_alloc's, or `nothing` */
    Py_ssize_t nrefs; /* references in data; 0: numbers */
    Lock mu;          /* guards them */
    _Atomic(size_t) dirty; /* all behind so many bytes is zero still; see block_wrote */
} Block;

/* What a Slice, an Array and a Pointer begin with. */
typedef struct {
    PyObject_HEAD
    Type *type;   /* owned: Slice[T], Array[T, n], Pointer[T] */
    Block *block; /* owned; NULL: a nil slice */
    char *data;   /* its first element */
} Header;

typedef Header Array;
typedef Header Pointer;

typedef struct {
    Header h;
    Py_ssize_t len, cap;
} Slice;

typedef struct {
    PyObject_HEAD
    Type *type;
    PyObject *dict; /* owned, of canonical keys and values; NULL: a nil map */
} Map;

/* The elements that a Slice or an Array shows. */
typedef struct {
    Type *elem;
    Block *block;
    char *data;
    Py_ssize_t len, cap;
} Span;

extern HIDDEN PyTypeObject Meta_Type, Type_Type, Block_Type, Array_Type, Slice_Type, Pointer_Type,
    Map_Type, SpanIter_Type;
extern HIDDEN char nothing[]; /* the data of what has no size */
extern HIDDEN Type basic[];   /* by Kind, up to K_STRING */

/* ---- type.c ------------------------------------------------------------------------------- */

HIDDEN Type *type_of(PyObject *o);
HIDDEN bool type_equal(const Type *a, const Type *b);
HIDDEN PyObject *type_name(Type *t);
HIDDEN Type *array_type(Type *elem, Py_ssize_t n);
HIDDEN Type *slice_type(Type *elem);
HIDDEN Type *pointer_type(Type *elem);
HIDDEN PyObject *type_origin(const Type *t);
HIDDEN int types_init(PyObject *mod);

/* ---- elem.c: one element, or several ---------------------------------------------------------
 * `s` may be NULL for numbers.  `i` is for messages: the index, or NO_INDEX. */

HIDDEN PyObject *elem_load(Type *t, Block *s, char *p);
HIDDEN int elem_store(Type *t, Block *s, char *p, PyObject *v, Py_ssize_t i);
HIDDEN void elem_move(Type *t, Block *to, char *p, Block *from, char *q, Py_ssize_t n);
HIDDEN void elem_clear(Type *t, Block *s, char *p, Py_ssize_t n);
HIDDEN int elem_equal(Type *t, Block *s, char *p, Block *r, char *q, Py_ssize_t n);
HIDDEN PyObject *elem_canonical(Type *t, PyObject *v);
HIDDEN PyObject *elem_zero(Type *t);
HIDDEN PyObject *elem_convert(Type *t, PyObject *v);
HIDDEN PyObject *ref_load(Block *s, char *p);
HIDDEN PyObject *elem_utf8(PyObject *str);

/* ---- block.c: blocks, and what headers share ---------------------------------------------- */

HIDDEN Block *block_new(Type *elem, Py_ssize_t n, bool zero);
HIDDEN PyObject *header_new(PyTypeObject *cls, Type *type, Block *block, char *data);
HIDDEN int header_traverse(Header *h, visitproc visit, void *arg);
HIDDEN void header_dealloc(Header *h);
HIDDEN PyObject *slice_new(Type *type, Block *block, char *data, Py_ssize_t len, Py_ssize_t cap);
HIDDEN PyObject *header_reduce(PyObject *o, PyObject *unused);
HIDDEN PyObject *header_setstate(PyObject *o, PyObject *state);
HIDDEN PyObject *value_repr(PyObject *o);
HIDDEN PyObject *value_str(PyObject *o);
HIDDEN int values_init(void);

/* ---- span.c: indices, iteration ------------------------------------------------------------- */

HIDDEN bool span_of(PyObject *o, Span *span);
HIDDEN PyObject *span_get(PyObject *o, PyObject *key);
HIDDEN int span_set(PyObject *o, PyObject *key, PyObject *v);
HIDDEN PyObject *span_item(PyObject *o, Py_ssize_t i);
HIDDEN PyObject *span_iter(PyObject *o);
HIDDEN PyObject *span_compare(PyObject *a, PyObject *b, int op);
HIDDEN PyObject *span_tuple(PyObject *o);
HIDDEN int span_fill(Span to, PyObject *values, const char *who);
HIDDEN int span_fill_items(Span to, PyObject *const *items, Py_ssize_t n, const char *who);

/* ---- buffer.c ---------------------------------------------------------------------------------- */

HIDDEN int span_getbuffer(PyObject *o, Py_buffer *view, int flags);
HIDDEN void span_releasebuffer(PyObject *o, Py_buffer *view);
HIDDEN int elements_of(PyObject *o, Type *elem, Py_buffer *view);

/* ---- array.c, slice.c, pointer.c, map.c ---------------------------------------------------------- */

HIDDEN PyObject *array_make(Type *type, PyObject *values);
HIDDEN PyObject *array_view(Type *type, Block *block, char *data);
HIDDEN PyObject *array_copy(Array *a);
HIDDEN PyObject *slice_make(Type *type, Py_ssize_t len, Py_ssize_t cap);
HIDDEN PyObject *slice_from(Type *type, PyObject *values);
HIDDEN PyObject *pointer_make(Type *type);
HIDDEN PyObject *map_make(Type *type, PyObject *items);
HIDDEN PyObject *map_nil(Type *type);
HIDDEN int map_init(void);
HIDDEN int map_clear(Map *m);
HIDDEN PyObject *map_delete(Map *m, PyObject *key);
HIDDEN PyObject *mem_append(PyObject *mod, PyObject *const *args, Py_ssize_t nargs);
HIDDEN PyObject *mem_extend(PyObject *mod, PyObject *const *args, Py_ssize_t nargs);
HIDDEN PyObject *mem_copy(PyObject *mod, PyObject *const *args, Py_ssize_t nargs);

/* ---- what is asked often ------------------------------------------------------------------------- */

static inline bool
is_int(const Type *t)
{
    return t->kind <= K_UINT64;
}

static inline bool
holds_ref(const Type *t)
{
    return t->kind >= K_STRING && t->kind <= K_POINTER;
}

static inline bool
is_slice(PyObject *o)
{
    return Py_TYPE(o) == &Slice_Type;
}

static inline bool
is_type(PyObject *o)
{
    return Py_TYPE(o) == &Type_Type;
}

/* Large blocks remember how far they were written, since what is zero need not be zeroed
 * for who gets it next; the mark goes by pages, so that it seldom moves.  Of references it
 * is not needed: dropping them leaves zeros. */
static inline void
block_wrote(Block *b, const char *end)
{
    size_t n = (size_t)(end - b->data);
    size_t dirty = atomic_load_explicit(&b->dirty, memory_order_relaxed);
    while (UNLIKELY(n > dirty)) {
        if (atomic_compare_exchange_weak(&b->dirty, &dirty, (n + 4095) & ~(size_t)4095)) {
            break;
        }
    }
}

static inline Span
slice_span(Slice *s)
{
    return (Span){s->h.type->sub, s->h.block, s->h.data, s->len, s->cap};
}

static inline Span
array_span(Array *a)
{
    return (Span){a->type->sub, a->block, a->data, a->type->n, a->type->n};
}

#endif
