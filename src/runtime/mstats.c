/* SPDX-License-Identifier: MIT
 *
 * mstats.c: what runtime.read_mem_stats tells, and the functions that tests use.
 *
 * All counts are read with the world stopped (malloc.c), so they are of one moment and add up.
 * No Python object is made before it goes on: that could free one that owns a block.
 */
#include "mheap.h"

#include <time.h>

/* ---- collections of Python's garbage collector ---------------------------------------------- */

static struct {
    _Atomic(int64_t) n, pause_ns, last_ns; /* last: since 1970; 0: never */
    int64_t began;
} collections;

void
mem_note_collection(bool start)
{
    if (start) {
        collections.began = nanotime();
        return;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    atomic_store(&collections.last_ns, now.tv_sec * (int64_t)1000000000 + now.tv_nsec);
    atomic_fetch_add(&collections.pause_ns, nanotime() - collections.began);
    atomic_fetch_add(&collections.n, 1);
}

/* ---- statistics ---------------------------------------------------------------------------------- */

typedef struct {
    uint64_t mallocs[MAX_CLASSES], frees[MAX_CLASSES];
    unsigned long long large_mallocs, large_frees, large_bytes, large_freed;
    size_t sys, inuse, gone, nspans, meta_sys, ncaches, nspare;
} Counts;

static void
count_world(Counts *c)
{
    stop_world();
    memcpy(c->mallocs, world.mallocs, sizeof(c->mallocs));
    memcpy(c->frees, world.frees, sizeof(c->frees));
    for (const Cache *cache = world.caches; cache != NULL; cache = cache->next) {
        for (int cls = 1; cls < nclasses; cls++) {
            c->mallocs[cls] += cache->bin[cls].mallocs;
            c->frees[cls] += cache->bin[cls].frees;
        }
    }
    for (const Cache *spare = world.spare; spare != NULL; spare = spare->next) {
        c->nspare++;
    }
    c->large_mallocs = heap.large_mallocs;
    c->large_frees = heap.large_frees;
    c->large_bytes = heap.large_bytes;
    c->large_freed = heap.large_freed;
    c->sys = heap.sys << HPAGE_SHIFT;
    c->inuse = heap.inuse << HPAGE_SHIFT;
    c->gone = heap.gone << HPAGE_SHIFT;
    c->nspans = heap.nspans;
    c->meta_sys = heap.meta_sys;
    c->ncaches = world.ncaches;
    start_world();
}

static PyObject *
by_size(const Counts *c)
{
    PyObject *all = PyTuple_New(nclasses - 1);
    for (int cls = 1; all != NULL && cls < nclasses; cls++) {
        PyObject *one =
            Py_BuildValue("(IKK)", (unsigned)classes[cls].size, (unsigned long long)c->mallocs[cls],
                          (unsigned long long)c->frees[cls]);
        if (one == NULL) {
            Py_CLEAR(all);
            break;
        }
        PyTuple_SET_ITEM(all, cls - 1, one);
    }
    return all;
}

/* First the counts, in the order of MemStats in runtime.py; then the collector's; then by_size. */
static PyObject *
mem_stats(PyObject *mod, PyObject *unused)
{
    Counts c = {0};
    (void)mod;
    (void)unused;
    count_world(&c);
    StackBytes stacks = stack_bytes();
    unsigned long long mallocs = c.large_mallocs, frees = c.large_frees;
    unsigned long long total = c.large_bytes, freed = c.large_freed;
    for (int cls = 1; cls < nclasses; cls++) {
        mallocs += c.mallocs[cls];
        frees += c.frees[cls];
        total += c.mallocs[cls] * classes[cls].size;
        freed += c.frees[cls] * classes[cls].size;
    }
    size_t mcache_sys = c.ncaches * sizeof(Cache);
    size_t mcache_inuse = mcache_sys - c.nspare * sizeof(Cache);
    PyObject *sizes = by_size(&c);
    if (sizes == NULL) {
        return NULL;
    }
    PyObject *counts = Py_BuildValue(
        "(KKnKKKnnnnKnnnnnnKK)", total - freed, total, c.sys + stacks.sys + c.meta_sys + mcache_sys,
        mallocs, frees, total - freed, c.sys, c.sys - c.inuse, c.inuse, c.gone, mallocs - frees,
        stacks.inuse, stacks.sys, c.nspans * sizeof(Span), c.meta_sys, mcache_inuse, mcache_sys,
        c.large_mallocs, c.large_frees);
    return Py_BuildValue("(NLLLN)", counts, (long long)atomic_load(&collections.last_ns),
                         (long long)atomic_load(&collections.pause_ns),
                         (long long)atomic_load(&collections.n), sizes);
}

/* ---- for tests ---------------------------------------------------------------------------------------- */

static PyObject *
debug_alloc(PyObject *mod, PyObject *args)
{
    Py_ssize_t size;
    int zero = 1;
    (void)mod;
    if (!PyArg_ParseTuple(args, "n|p:_debug_mem_alloc", &size, &zero)) {
        return NULL;
    }
    void *p;
    Py_BEGIN_ALLOW_THREADS
    p = mem_alloc((size_t)size, zero);
    Py_END_ALLOW_THREADS
    return p != NULL ? PyLong_FromVoidPtr(p) : Py_NewRef(Py_None);
}

static PyObject *
debug_free(PyObject *mod, PyObject *args)
{
    PyObject *address;
    Py_ssize_t dirty = -1;
    (void)mod;
    if (!PyArg_ParseTuple(args, "O|n:_debug_mem_free", &address, &dirty)) {
        return NULL;
    }
    void *p = PyLong_AsVoidPtr(address);
    if (p == NULL && PyErr_Occurred()) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    mem_free_clean(p, dirty < 0 ? SIZE_MAX : (size_t)dirty);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *
debug_usable(PyObject *mod, PyObject *address)
{
    (void)mod;
    void *p = PyLong_AsVoidPtr(address);
    return p == NULL ? NULL : PyLong_FromSize_t(mem_usable(p));
}

static PyObject *
debug_round(PyObject *mod, PyObject *size)
{
    (void)mod;
    size_t n = PyLong_AsSize_t(size);
    return n == (size_t)-1 && PyErr_Occurred() ? NULL : PyLong_FromSize_t(mem_round(n));
}

static PyObject *
debug_trim(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    mem_trim();
    Py_RETURN_NONE;
}

static PyObject *
debug_heap_check(PyObject *mod, PyObject *unused)
{
    (void)mod;
    (void)unused;
    stop_world();
    const char *wrong = heap_check();
    start_world();
    if (wrong != NULL) {
        PyErr_Format(PyExc_AssertionError, "heap: %s does not hold", wrong);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_mem_stats", mem_stats, METH_NOARGS, PyDoc_STR("runtime.read_mem_stats")},
    {"_debug_mem_alloc", debug_alloc, METH_VARARGS,
     PyDoc_STR("_debug_mem_alloc(size, zero=True): the address of a block; None: no memory.")},
    {"_debug_mem_free", debug_free, METH_VARARGS,
     PyDoc_STR("_debug_mem_free(address, dirty=-1): from dirty on it is zero.")},
    {"_debug_mem_usable", debug_usable, METH_O, PyDoc_STR("_debug_mem_usable(address)")},
    {"_debug_mem_round", debug_round, METH_O, PyDoc_STR("_debug_mem_round(size)")},
    {"_debug_mem_trim", debug_trim, METH_NOARGS,
     PyDoc_STR("Empty all caches, give the system what is not needed.")},
    {"_debug_heap_check", debug_heap_check, METH_NOARGS,
     PyDoc_STR("Look at the whole heap; AssertionError says what is wrong.")},
    {NULL, NULL, 0, NULL},
};

int
mem_add_functions(PyObject *mod)
{
    return PyModule_AddFunctions(mod, functions);
}
