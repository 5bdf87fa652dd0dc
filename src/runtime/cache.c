/* SPDX-License-Identifier: MIT
 *
 * cache.c: sync.Pool, a cache of objects to be used again (Go's sync.Pool).
 *
 * At each full collection what was not used since the one before is dropped:
 * the objects become the `victims`, and the victims of last time go (Go's
 * poolCleanup).  All Pools are in one list for that.
 *
 * Locks: p->mu guards a Pool's two stacks; caches.mu the list of Pools, a leaf.
 * References are dropped with neither held: destructors run anybody's code.
 */
#include "runtime.h"

typedef struct {
    PyObject **v; /* owned references, the last one is the next to be used */
    Py_ssize_t n, cap;
} Stack;

typedef struct Cache Cache;
struct Cache {
    PyObject_HEAD
    Lock mu; /* guards fresh, victims */
    Stack fresh, victims;
    PyObject *make;     /* owned, or NULL */
    Cache *next, *prev; /* caches.first */
    PyObject *weakrefs;
};

static struct {
    Lock mu;
    Cache *first;
} caches;

/* ---- get and put ------------------------------------------------------------------------- */

static PyObject *
pop(Cache *p)
{
    Stack *s = p->fresh.n > 0 ? &p->fresh : &p->victims;
    return s->n > 0 ? s->v[--s->n] : NULL;
}

static PyObject *
Cache_get(Cache *p, PyObject *unused)
{
    (void)unused;
    LOCK(&p->mu);
    PyObject *o = pop(p);
    UNLOCK(&p->mu);
    if (o != NULL) {
        return o;
    }
    return p->make != NULL ? PyObject_CallNoArgs(p->make) : Py_NewRef(Py_None);
}

/* With p->mu held.  False: no memory. */
static bool
grow(Stack *s)
{
    Py_ssize_t cap = s->cap ? s->cap * 2 : 8;
    PyObject **v = realloc(s->v, (size_t)cap * sizeof(PyObject *));
    if (v == NULL) {
        return false;
    }
    s->v = v;
    s->cap = cap;
    return true;
}

static PyObject *
Cache_put(Cache *p, PyObject *o)
{
    if (o == Py_None) {
        Py_RETURN_NONE;
    }
    LOCK(&p->mu);
    bool room = p->fresh.n < p->fresh.cap || grow(&p->fresh);
    if (room) {
        p->fresh.v[p->fresh.n++] = Py_NewRef(o);
    }
    UNLOCK(&p->mu);
    if (!room) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

static void
drop(Stack s)
{
    while (s.n > 0) {
        PyObject *o = s.v[--s.n];
        Py_DECREF(o);
    }
    free(s.v);
}

/* ---- the collector ------------------------------------------------------------------------ */

/* A full collection begins. */
void
cache_full_collection(void)
{
    Stack *old = NULL; /* all that goes, dropped when no lock is held */
    Py_ssize_t n = 0;
    LOCK(&caches.mu);
    for (Cache *p = caches.first; p != NULL; p = p->next) {
        n++;
    }
    if (n > 0 && (old = calloc((size_t)n, sizeof(Stack))) != NULL) {
        Py_ssize_t i = 0;
        for (Cache *p = caches.first; p != NULL; p = p->next) {
            LOCK(&p->mu);
            old[i++] = p->victims;
            p->victims = p->fresh;
            p->fresh = (Stack){NULL, 0, 0};
            UNLOCK(&p->mu);
        }
    }
    UNLOCK(&caches.mu);
    for (Py_ssize_t i = 0; old != NULL && i < n; i++) {
        drop(old[i]);
    }
    free(old);
}

/* ---- the Python type ------------------------------------------------------------------------- */

static PyObject *
Cache_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"new", NULL};
    PyObject *make = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Pool", names, &make) ||
        (make != Py_None && callable_arg("sync.Pool: new", &make, 1) == NULL)) {
        return NULL;
    }
    Cache *p = (Cache *)type->tp_alloc(type, 0);
    if (p == NULL) {
        return NULL;
    }
    p->make = make != Py_None ? Py_NewRef(make) : NULL;
    LOCK(&caches.mu);
    p->next = caches.first;
    if (p->next != NULL) {
        p->next->prev = p;
    }
    caches.first = p;
    UNLOCK(&caches.mu);
    return (PyObject *)p;
}

static int
Cache_traverse(Cache *p, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(p));
    Py_VISIT(p->make);
    const Stack *const both[] = {&p->fresh, &p->victims};
    for (int k = 0; k < 2; k++) {
        for (Py_ssize_t i = 0; i < both[k]->n; i++) {
            Py_VISIT(both[k]->v[i]);
        }
    }
    return 0;
}

static int
Cache_clear(Cache *p)
{
    LOCK(&p->mu);
    Stack fresh = p->fresh, victims = p->victims;
    p->fresh = p->victims = (Stack){NULL, 0, 0};
    UNLOCK(&p->mu);
    drop(fresh);
    drop(victims);
    Py_CLEAR(p->make);
    return 0;
}

static void
Cache_dealloc(Cache *p)
{
    PyObject_GC_UnTrack(p);
    LOCK(&caches.mu);
    *(p->prev != NULL ? &p->prev->next : &caches.first) = p->next;
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
    UNLOCK(&caches.mu);
    Cache_clear(p);
    plain_dealloc((PyObject *)p);
}

static PyObject *
Cache_repr(Cache *p)
{
    return PyUnicode_FromFormat("<sync.Pool of %zd at %p>", p->fresh.n + p->victims.n, p);
}

static PyMethodDef cache_methods[] = {
    METHOD("get", Cache_get, METH_NOARGS,
           PyDoc_STR("get($self)\n--\n\n"
                     "The object that was put last; if there is none, new(), or None.")),
    METHOD("put", Cache_put, METH_O,
           PyDoc_STR("put($self, obj, /)\n--\n\nKeep obj for a later get.  None is ignored.")),
    METHOD("__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL),
    {NULL, NULL, 0, NULL},
};

static PyMemberDef cache_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Cache, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot cache_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR(
                    "Pool(new=None)\n--\n\n"
                    "A cache of objects to be used again (Go's sync.Pool).  What is not used\n"
                    "between two full garbage collections is dropped.  Raises TypeError if new is\n"
                    "not callable.")},
    {Py_tp_new, Cache_new},
    {Py_tp_traverse, Cache_traverse},
    {Py_tp_clear, Cache_clear},
    {Py_tp_dealloc, Cache_dealloc},
    {Py_tp_repr, Cache_repr},
    {Py_tp_methods, cache_methods},
    {Py_tp_members, cache_members},
    {0, NULL},
};

static PyType_Spec cache_spec = {
    .name = "goroutines.sync.Pool",
    .basicsize = sizeof(Cache),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = cache_slots,
};

int
cache_add_types(PyObject *mod)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(mod, &cache_spec, NULL);
    return type == NULL ? -1 : PyModule_AddObjectRef(mod, "Cache", (PyObject *)type);
}
