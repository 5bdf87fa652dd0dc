/* SPDX-License-Identifier: MIT
 *
 * stack.c: stack slices, and the chunks that hold Python frames.
 *
 * Every goroutine of an M runs on the M's own thread stack, below m->base.
 * While it is parked and another one uses that region, the bytes from its
 * stack pointer up to the base, its slice, are kept in g->slice.  Nothing may
 * point into a slice from outside while it is copied out, but for the entry
 * frames that compat.h takes out of the chain.
 *
 * Rejected: a mapped stack for each goroutine (a size to choose, guard pages,
 * the limit on the number of mappings, 8 KB at the least, and CPython's own
 * stack checks would have to be told at each switch).
 *
 * Python frames live in a small first chunk per goroutine.  CPython adds
 * chunks of 16 KiB when they outgrow it and frees them on the way back; each
 * would cost a mapping, so a small cache per thread sits in front of the arena
 * allocator.  On the way it tells limit.c, which has no other chance to see a
 * goroutine's stack grow.
 */
#include "runtime.h"

#if defined(__SANITIZE_ADDRESS__)
#define NO_ASAN __attribute__((no_sanitize_address, noinline))
#else
#define NO_ASAN
#endif

/* memcpy for stack memory: a sanitizer's own memcpy would object to red zones. */
static inline NO_ASAN void
slice_copy(char *dst, const char *src, size_t n)
{
#if defined(__SANITIZE_ADDRESS__)
    volatile uint64_t *d = (volatile uint64_t *)(void *)dst;
    const volatile uint64_t *s = (const volatile uint64_t *)(const void *)src;
    for (size_t i = 0; i < n / 8; i++) {
        d[i] = s[i];
    }
#else
    if (n > 0) { /* main above the base has no slice, and no buffer */
        memcpy(dst, src, n);
    }
#endif
}

/* ---- accounting --------------------------------------------------------------------- */

/* What threads that have no M, or no longer, have got more than given back. */
static _Atomic(int64_t) stack_elsewhere;

static inline void
count_own(_Atomic(int64_t) *counter, int64_t n)
{
    int64_t was = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, was + n, memory_order_relaxed);
}

/* Only where memory is got or given back: never in a switch as such. */
static inline void
count_stack(M *m, int64_t n)
{
    if (LIKELY(m != NULL)) {
        count_own(&m->stack_inuse, n);
    }
    else {
        atomic_fetch_add_explicit(&stack_elsewhere, n, memory_order_relaxed);
    }
}

/* m is about to go, with its caches. */
void
stack_forget(M *m)
{
    int64_t n = atomic_load(&m->stack_inuse) + m->narenas * (int64_t)DATA_CHUNK;
    atomic_fetch_add(&stack_elsewhere, n);
}

/* Slices and Python frames of all goroutines; what is kept for them in caches is in sys only. */
StackBytes
stack_bytes(void)
{
    int64_t inuse = atomic_load(&stack_elsewhere), spare = 0;
    LOCK_SCHED();
    for (M *m = sched.ms; m != NULL; m = m->next) {
        inuse += atomic_load_explicit(&m->stack_inuse, memory_order_relaxed);
        spare += atomic_load_explicit(&m->stack_spare, memory_order_relaxed);
    }
    UNLOCK_SCHED();
    inuse = inuse > 0 ? inuse : 0; /* a chunk from before the import may have been given back */
    return (StackBytes){(Py_ssize_t)inuse, (Py_ssize_t)(inuse + spare)};
}

/* ---- slices ----------------------------------------------------------------------------- */

#define SLICE_ROUND 16
#define SLICE_SHRINK 4096 /* a buffer this much too big is given back */

static NOINLINE void
slice_resize(G *g, size_t n)
{
    free(g->slice);
    int64_t had = g->slice_cap;
    g->slice_cap = (uint32_t)((n + SLICE_ROUND - 1) & ~(size_t)(SLICE_ROUND - 1));
    count_stack(g->m, (int64_t)g->slice_cap - had);
    g->slice = malloc(g->slice_cap);
    if (g->slice == NULL) {
        throw_("out of memory for a goroutine's stack slice");
    }
}

/* Both are called from the assembler with the stack in between. */
NO_ASAN void
go_slice_save(G *g, char *sp)
{
    char *base = g->m->base;
    size_t n = sp < base ? (size_t)(base - sp) : 0;
    if (UNLIKELY(n > g->slice_cap || g->slice_cap > n + SLICE_SHRINK)) {
        slice_resize(g, n);
    }
    g->slice_len = (uint32_t)n;
    slice_copy(g->slice, sp, n);
}

NO_ASAN void
go_slice_load(G *g)
{
    slice_copy(g->m->base - g->slice_len, g->slice, g->slice_len);
}

void
slice_free(G *g)
{
    free(g->slice);
    count_stack(tls_m, -(int64_t)g->slice_cap);
    g->slice = NULL;
    g->slice_len = g->slice_cap = 0;
}

/* ---- first chunks of frames -------------------------------------------------- */

#define CHUNK_BYTES 560

/* A chunk stays usable by the thread state after chunk_put until the next
 * chunk_get: the list is last in, first out. */
_PyStackChunk *
chunk_get(M *m)
{
    _PyStackChunk *c = m->chunks;
    if (LIKELY(c != NULL)) {
        m->chunks = c->previous;
        count_own(&m->stack_spare, -CHUNK_BYTES);
    }
    else {
        c = malloc(CHUNK_BYTES);
        if (c == NULL) {
            throw_("out of memory for a goroutine's frames");
        }
        c->size = CHUNK_BYTES;
    }
    count_own(&m->stack_inuse, CHUNK_BYTES);
    c->previous = NULL;
    c->top = 0;
    return c;
}

void
chunk_put(M *m, _PyStackChunk *c)
{
    c->previous = m->chunks;
    m->chunks = c;
    count_own(&m->stack_inuse, -CHUNK_BYTES);
    count_own(&m->stack_spare, CHUNK_BYTES);
}

/* ---- a cache of CPython's chunks ---------------------------------------------- */

static PyObjectArenaAllocator arena_below;

static void *
data_chunk_alloc(M *m)
{
    void *p;
    if (m != NULL && m->narenas > 0) {
        p = m->arenas[--m->narenas];
        count_own(&m->stack_spare, -DATA_CHUNK);
    }
    else {
        p = arena_below.alloc(arena_below.ctx, DATA_CHUNK);
    }
    if (p != NULL) {
        count_stack(m, DATA_CHUNK);
    }
    return p;
}

static void *
arena_alloc(void *ctx, size_t size)
{
    M *m = tls_m;
    if (!limit_look(m, (ptrdiff_t)size)) {
        return NULL;
    }
    void *p = size == DATA_CHUNK ? data_chunk_alloc(m) : arena_below.alloc(arena_below.ctx, size);
    if (p == NULL) {
        limit_look(m, -(ptrdiff_t)size);
    }
    return p;
}

static void
arena_free(void *ctx, void *p, size_t size)
{
    M *m = tls_m;
    limit_look(m, -(ptrdiff_t)size);
    if (p == limit_nobodys_chunk()) {
        return;
    }
    if (size == DATA_CHUNK) {
        count_stack(m, -DATA_CHUNK);
    }
    if (size == DATA_CHUNK && m != NULL && m->narenas < (int)Py_ARRAY_LENGTH(m->arenas)) {
        m->arenas[m->narenas++] = p;
        count_own(&m->stack_spare, DATA_CHUNK);
        return;
    }
    arena_below.free(arena_below.ctx, p, size);
}

void
arena_cache_install(void)
{
    PyObjectArenaAllocator ours = {NULL, arena_alloc, arena_free};
    PyObject_GetArenaAllocator(&arena_below);
    PyObject_SetArenaAllocator(&ours);
}
