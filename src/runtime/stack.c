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

#define SLICE_ROUND 16
#define SLICE_SHRINK 4096 /* a buffer this much too big is given back */

static NOINLINE void
slice_resize(G *g, size_t n)
{
    free(g->slice);
    g->slice_cap = (uint32_t)((n + SLICE_ROUND - 1) & ~(size_t)(SLICE_ROUND - 1));
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
    }
    else {
        c = malloc(CHUNK_BYTES);
        if (c == NULL) {
            throw_("out of memory for a goroutine's frames");
        }
        c->size = CHUNK_BYTES;
    }
    c->previous = NULL;
    c->top = 0;
    return c;
}

void
chunk_put(M *m, _PyStackChunk *c)
{
    c->previous = m->chunks;
    m->chunks = c;
}

/* ---- a cache of CPython's chunks ---------------------------------------------- */

static PyObjectArenaAllocator arena_below;

static void *
arena_alloc(void *ctx, size_t size)
{
    M *m = tls_m;
    if (!limit_look(m, (ptrdiff_t)size)) {
        return NULL;
    }
    if (size == DATA_CHUNK && m != NULL && m->narenas > 0) {
        return m->arenas[--m->narenas];
    }
    void *p = arena_below.alloc(arena_below.ctx, size);
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
    if (size == DATA_CHUNK && m != NULL && m->narenas < (int)Py_ARRAY_LENGTH(m->arenas)) {
        m->arenas[m->narenas++] = p;
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
