/* SPDX-License-Identifier: MIT
 *
 * mheap.h: what the files of the allocator share.  Its users need malloc.h only.
 *
 *     thread    Cache        a list of free blocks for each size class; no lock
 *       |                    (malloc.c)
 *     class     Central      spans that have blocks to give; a lock for each class
 *       |                    (malloc.c)
 *     process   heap         runs of 8 KiB pages in arenas of 64 MiB; one lock
 *                            (mheap.c)
 *
 * Lock order: a Cache that is `busy` -> a Central's mu -> heap.mu.  world.mu comes before all
 * and is never taken by who is busy: see "stopping the world" in malloc.c.
 */
#ifndef GOROUTINES_MHEAP_H
#define GOROUTINES_MHEAP_H

#include "malloc.h"

#define HPAGE_SHIFT 13 /* heap pages; the system's may be smaller or larger */
#define HPAGE ((size_t)1 << HPAGE_SHIFT)
#define ARENA_SHIFT 26
#define ARENA_BYTES ((size_t)1 << ARENA_SHIFT)
#define ARENA_PAGES ((size_t)1 << (ARENA_SHIFT - HPAGE_SHIFT))
#define VADDR_BITS 48
#define MAX_SMALL 32768
#define MAX_CLASSES 68 /* class 0 is no class */

typedef uintptr_t Page; /* an address >> HPAGE_SHIFT */

typedef enum {
    SPAN_NONE, /* no run begins here; what fresh memory says */
    SPAN_FREE,
    SPAN_SMALL, /* cut into blocks of one class */
    SPAN_LARGE, /* one block */
} SpanState;

/* A run of pages, described in its arena's table at the index of its first page.  Guarded by
 * heap.mu while free, by its class's mu while SMALL; a LARGE one is its owner's. */
typedef struct Span {
    struct Span *next, *prev; /* in a bin of the heap, or in a Central's list */
    Page page;                /* its first page */
    size_t npages;
    Page first; /* in the entry of a FREE run's last page: where the run begins */
    union {
        void *free;   /* SMALL: blocks that came back, linked through their first word */
        size_t ngone; /* FREE: pages of it that the system has */
    };
    uint32_t nblocks; /* SMALL: how many blocks it is cut into */
    uint32_t ncarved; /* the first so many have been handed out once; the rest are untouched */
    uint32_t nout;    /* blocks that are in use or in caches */
    uint8_t state;    /* SpanState */
    uint8_t cls;
    bool zero;   /* SMALL: what is not carved yet is zero */
    bool listed; /* SMALL: stands in its Central's list */
} Span;

/* The tables of an arena, apart from it, so that a block written beyond its end harms data
 * only.  Pages of the tables come into being when used. */
typedef struct Arena {
    uint8_t cls[ARENA_PAGES];      /* size class of each page's span; 0: not SMALL */
    uint8_t dist[ARENA_PAGES];     /* SMALL: pages from here back to the span's first */
    uint64_t gone[ARENA_PAGES / 64];  /* bit: free, and the system has this page */
    uint64_t clean[ARENA_PAGES / 64]; /* bit: free and zero, as all are that are gone */
    Span span[ARENA_PAGES];
    struct Arena *next;
    Page page; /* the first page */
} Arena;

/* The part of a run outside of which all pages are zero. */
typedef struct {
    Page begin, end;
} Dirty;

/* The smallest free runs have a bin for each length, others 8 bins for each doubling. */
#define EXACT_BINS 64
#define BINS (EXACT_BINS + 8 * 29)
#define BIN_WORDS ((BINS + 63) / 64)

typedef struct {
    Span *first[BINS];
    uint64_t any[BIN_WORDS]; /* bit: the bin is not empty */
} Bins;

/* Page counts unless said otherwise.  Guarded by mu. */
typedef struct {
    pthread_mutex_t mu;
    _Atomic(Arena *) *index; /* by address >> ARENA_SHIFT; NULL: not ours */
    Arena *arenas;
    Bins warm, cold; /* free runs: with pages in memory; with none */
    Page grow, grow_end; /* reserved addresses that are not used yet */
    size_t small;        /* in SMALL spans */
    size_t sys, inuse;   /* got from the system; in spans that are not FREE */
    size_t gone;         /* free pages that the system has */
    size_t debt;         /* those of them that were taken from us, not just never used */
    size_t keep;         /* free pages that were missed when the system had them: kept now */
    size_t trim_mark;    /* `small` at the last trim, or the most since */
    _Atomic(bool) trim_wanted;
    size_t sys_page;    /* the system's page size in heap pages, at least 1 */
    size_t meta_sys, nspans; /* bytes of tables; spans that are not FREE */
    uint64_t large_mallocs, large_frees, large_bytes, large_freed; /* the last two: bytes */
} Heap;

extern HIDDEN Heap heap;

typedef struct {
    uint32_t size;
    uint16_t npages; /* of a span */
    uint16_t batch;  /* blocks that a cache gets or gives at a time */
    uint16_t least;  /* a cache keeps so many however the heap shrinks */
    uint16_t nblocks;
} Class;

extern HIDDEN Class classes[MAX_CLASSES];
extern HIDDEN int nclasses;

/* One size class in a thread's cache: a cache line. */
typedef struct {
    void *head;             /* free blocks, linked through their first word */
    char *carve, *carve_end; /* blocks that were never used, in one piece */
    uint32_t n, limit;      /* length of the list, and when to give some back */
    uint64_t mallocs, frees;
    bool zero; /* what lies between carve and carve_end is zero */
} __attribute__((aligned(64))) Bin;

typedef struct Cache {
    _Atomic(bool) busy; /* its thread is within the allocator */
    struct Cache *next, *prev;
    Bin bin[MAX_CLASSES];
} Cache;

/* One size class of the process. */
typedef struct {
    pthread_mutex_t mu;
    Span *spans; /* those with blocks to give; doubly linked */
} __attribute__((aligned(64))) Central;

/* Bits of world.slow: why not to take the short way. */
enum {
    WORLD_STOP = 1,  /* somebody looks at all caches */
    WORLD_FENCE = 2, /* no membarrier here: fence each time */
};

typedef struct {
    pthread_mutex_t mu; /* guards caches, spare, ended; held while the world is stopped */
    _Atomic(int) slow;
    Cache *caches;
    Cache *spare;          /* of threads that ended */
    size_t ncaches;        /* made so far */
    uint64_t mallocs[MAX_CLASSES], frees[MAX_CLASSES]; /* of threads that ended */
} World;

extern HIDDEN World world;

/* ---- mheap.c ------------------------------------------------------------------------- */

HIDDEN int heap_init(void);
HIDDEN Span *heap_alloc_small(int cls);
HIDDEN void heap_free_small(Span *s);
HIDDEN char *heap_alloc_large(size_t npages, Dirty *dirty);
HIDDEN void heap_free_large(void *p, size_t dirty);
HIDDEN void heap_trim(bool all);
HIDDEN void *system_map(size_t bytes);

/* ---- malloc.c ------------------------------------------------------------------------- */

HIDDEN void stop_world(void);
HIDDEN void start_world(void);
HIDDEN void *raw_alloc(size_t size, bool zero);
HIDDEN void raw_free(void *p, size_t dirty);
HIDDEN size_t raw_usable(const void *p);

/* ---- mzero.c --------------------------------------------------------------------------- */

HIDDEN void zero_init(void);
HIDDEN void zero_lines(char *p, size_t n);

/* ---- mcheck.c: red zones and poison ------------------------------------------------------ */

HIDDEN bool check_wanted(void);
HIDDEN void *check_alloc(size_t size, bool zero);
HIDDEN void check_free(void *p, size_t dirty);
HIDDEN size_t check_usable(const void *p);
HIDDEN const char *heap_check(void);

/* ---- inline ------------------------------------------------------------------------------- */

static inline Page
page_of(const void *p)
{
    return (uintptr_t)p >> HPAGE_SHIFT;
}

static inline char *
page_address(Page page)
{
    return (char *)(page << HPAGE_SHIFT);
}

/* NULL: no address of ours. */
static inline Arena *
arena_of(Page page)
{
    size_t i = page >> (ARENA_SHIFT - HPAGE_SHIFT);
    if (UNLIKELY(i >> (VADDR_BITS - ARENA_SHIFT))) {
        return NULL;
    }
    return atomic_load_explicit(&heap.index[i], memory_order_acquire);
}

/* The table's entry for a page, which must be ours. */
static inline Span *
span_at(Page page)
{
    return &arena_of(page)->span[page % ARENA_PAGES];
}

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define ASAN_HIDE(p, n) __asan_poison_memory_region(p, n)
#define ASAN_SHOW(p, n) __asan_unpoison_memory_region(p, n)
#else
#define ASAN_HIDE(p, n) ((void)(p), (void)(n))
#define ASAN_SHOW(p, n) ((void)(p), (void)(n))
#endif

#endif
