/* SPDX-License-Identifier: MIT
 *
 * mheap.c: the page heap, from which spans of blocks and large blocks are taken (Go's mheap).
 *
 * Addresses are reserved in arenas and opened to use from the bottom up.  A run of pages is in
 * use (a span) or free; two free runs never lie side by side.  A free page is in memory, or is
 * `gone`: the system has it, and gives a zero page when it is touched.  A run may be mixed.
 * A free page is `clean` if it is gone, or zero in memory as who freed it said.
 * The entry of a run's first page describes it; entries within say SPAN_NONE.  Entries within
 * a free run may be given to the system too, which reads as SPAN_NONE.
 *
 * Returning memory.  Go has a goroutine for it; we have no thread that is always there, and a
 * thread of our own would make every fork a fork of a threaded program.  So who frees looks:
 * beyond a tenth of what is in use, and 256 KiB, pages go.  A program that allocates and frees
 * the same again would pay for page faults in each round; so pages that are missed are kept
 * next time (`keep`), until a time comes when even more is free.
 *
 * Rejected: a tree by address (Go's older treap): bins with boundary tags find a run of about
 * the right length in constant time, and need no memory beside the page table's.
 *
 * Lock: heap.mu guards all here.
 */
#include "mheap.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

Heap heap = {.mu = PTHREAD_MUTEX_INITIALIZER};

#define GROW_PAGES ((size_t)512)  /* opened at a time, at least */
#define FREE_PAGES ((size_t)32)   /* may lie free whatever is in use */
#define TRIM_PAGES ((size_t)128) /* fewer in small spans are no reason to empty the caches */
#define KEEP_PAGES ((size_t)4096) /* the most that `keep` comes to: 32 MiB */
#define TABLE_PAGES 256           /* a free run's table entries go from so many pages on */
#define BIN_TRIES 32              /* runs looked at for the best fit within a bin */

#define PAGES_PER_WORD 64

static inline size_t
min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t
max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- the system ---------------------------------------------------------------------------- */

/* Zero memory, or NULL. */
void *
system_map(size_t bytes)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Not NORESERVE: with that a system that would refuse an absurd size does not. */
static char *
system_reserve_at(char *hint, size_t bytes)
{
    char *p = mmap(hint, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Addresses, a multiple of an arena, which nothing is behind yet: if possible those after the
 * last, so that runs can join. */
static char *
system_reserve(size_t bytes)
{
    char *next = page_address(heap.grow_end);
    char *p = next != NULL ? system_reserve_at(next, bytes) : NULL;
    if (p != NULL && p == next && (uintptr_t)(p + bytes) >> VADDR_BITS == 0) {
        return p;
    }
    if (p != NULL) {
        munmap(p, bytes);
    }
    size_t more = bytes + ARENA_BYTES;
    p = system_reserve_at(NULL, more);
    if (p == NULL) {
        return NULL;
    }
    char *begin = (char *)(((uintptr_t)p + ARENA_BYTES - 1) & ~(ARENA_BYTES - 1));
    if (begin > p) {
        munmap(p, (size_t)(begin - p));
    }
    munmap(begin + bytes, (size_t)(p + more - (begin + bytes)));
    if ((uintptr_t)(begin + bytes) >> VADDR_BITS) {
        munmap(begin, bytes);
        return NULL;
    }
    return begin;
}

static bool
system_open(Page page, size_t npages)
{
    return mprotect(page_address(page), npages << HPAGE_SHIFT, PROT_READ | PROT_WRITE) == 0;
}

/* Give whole pages of the system's back; they read as zero then. */
static bool
system_release(char *p, size_t bytes)
{
#ifdef __linux__
    return madvise(p, bytes, MADV_DONTNEED) == 0;
#else
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return mmap(p, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED;
#endif
}

/* ---- which pages are gone -------------------------------------------------------------------- */

/* Up to 64 pages whose bits share a word. */
typedef struct {
    Arena *arena;
    size_t word, n;
    unsigned shift;
    uint64_t mask;
} Bits;

static inline Bits
bits_at(Page page, Page end)
{
    size_t i = page % ARENA_PAGES;
    unsigned shift = i % PAGES_PER_WORD;
    size_t n = min_size(PAGES_PER_WORD - shift, end - page);
    uint64_t mask = (n == PAGES_PER_WORD ? ~(uint64_t)0 : (((uint64_t)1 << n) - 1)) << shift;
    return (Bits){arena_of(page), i / PAGES_PER_WORD, n, shift, mask};
}

static inline bool
is_gone(Page page)
{
    size_t i = page % ARENA_PAGES;
    return arena_of(page)->gone[i / PAGES_PER_WORD] >> (i % PAGES_PER_WORD) & 1;
}

static void
set_clean(Page page, Page end)
{
    while (page < end) {
        Bits b = bits_at(page, end);
        b.arena->clean[b.word] |= b.mask;
        page += b.n;
    }
}

static void
set_gone(Page page, Page end)
{
    set_clean(page, end);
    while (page < end) {
        Bits b = bits_at(page, end);
        b.arena->gone[b.word] |= b.mask;
        page += b.n;
    }
}

/* The pages are to be used: none of them is gone or clean any more.  How many were gone;
 * *dirty: the part beyond which all are zero. */
static size_t
clear_bits(Page page, Page end, Dirty *dirty)
{
    size_t ngone = 0;
    *dirty = (Dirty){end, end};
    while (page < end) {
        Bits b = bits_at(page, end);
        uint64_t *gone = &b.arena->gone[b.word], *clean = &b.arena->clean[b.word];
        uint64_t soiled = ~*clean & b.mask;
        if (soiled != 0) {
            Page first = page - b.shift + (unsigned)__builtin_ctzll(soiled);
            dirty->begin = min_size(dirty->begin, first);
            dirty->end = page - b.shift + (64 - (unsigned)__builtin_clzll(soiled));
        }
        ngone += (size_t)__builtin_popcountll(*gone & b.mask);
        *gone &= ~b.mask;
        *clean &= ~b.mask;
        page += b.n;
    }
    return ngone;
}

/* ---- bins of free runs -------------------------------------------------------------------------- */

static int
bin_of(size_t npages)
{
    if (npages < EXACT_BINS) {
        return (int)npages;
    }
    int log = 63 - __builtin_clzll(npages);
    int bin = EXACT_BINS + (log - 6) * 8 + (int)(npages >> (log - 3) & 7);
    return bin < BINS ? bin : BINS - 1;
}

static Bins *
bins_of(const Span *s)
{
    return s->ngone < s->npages ? &heap.warm : &heap.cold;
}

static void
bin_insert(Span *s)
{
    Bins *bins = bins_of(s);
    int bin = bin_of(s->npages);
    s->prev = NULL;
    s->next = bins->first[bin];
    if (s->next != NULL) {
        s->next->prev = s;
    }
    bins->first[bin] = s;
    bins->any[bin / 64] |= (uint64_t)1 << (bin % 64);
}

static void
bin_remove(Span *s)
{
    Bins *bins = bins_of(s);
    int bin = bin_of(s->npages);
    if (s->prev != NULL) {
        s->prev->next = s->next;
    }
    else {
        bins->first[bin] = s->next;
        if (s->next == NULL) {
            bins->any[bin / 64] &= ~((uint64_t)1 << (bin % 64));
        }
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
}

/* The first bin that is not empty, from `bin` on; BINS if there is none. */
static int
bin_next(const Bins *bins, int bin)
{
    for (int w = bin / 64; w < BIN_WORDS; w++) {
        uint64_t any = bins->any[w];
        if (w == bin / 64) {
            any &= ~(uint64_t)0 << (bin % 64);
        }
        if (any != 0) {
            return w * 64 + __builtin_ctzll(any);
        }
    }
    return BINS;
}

/* A run of at least so many pages, about the shortest there is. */
static Span *
bins_find(const Bins *bins, size_t npages)
{
    int bin = bin_of(npages), tries = BIN_TRIES;
    Span *best = NULL;
    for (Span *s = bins->first[bin]; s != NULL && tries-- > 0; s = s->next) {
        if (s->npages >= npages && (best == NULL || s->npages < best->npages)) {
            best = s;
        }
    }
    if (best == NULL && bin + 1 < BINS) {
        bin = bin_next(bins, bin + 1);
        best = bin < BINS ? bins->first[bin] : NULL;
    }
    return best;
}

/* ---- free runs ------------------------------------------------------------------------------------ */

/* The free run that ends before `page`, or NULL.  What an entry says of `first` may be long
 * past, but if a free run begins there and ends here, it is so. */
static Span *
free_before(Page page)
{
    if (arena_of(page - 1) == NULL) {
        return NULL;
    }
    Page first = span_at(page - 1)->first;
    if (first == 0) {
        return NULL;
    }
    Span *s = span_at(first);
    return s->state == SPAN_FREE && first + s->npages == page ? s : NULL;
}

static Span *
free_after(Page end)
{
    if (arena_of(end) == NULL) {
        return NULL;
    }
    Span *s = span_at(end);
    return s->state == SPAN_FREE ? s : NULL;
}

/* Make a free run, and one with those beside it. */
static Span *
run_free(Page page, size_t npages, size_t ngone)
{
    Span *before = free_before(page), *after = free_after(page + npages);
    if (before != NULL) {
        bin_remove(before);
        before->state = SPAN_NONE;
        page = before->page;
        npages += before->npages;
        ngone += before->ngone;
    }
    if (after != NULL) {
        bin_remove(after);
        after->state = SPAN_NONE;
        npages += after->npages;
        ngone += after->ngone;
    }
    Span *s = span_at(page);
    s->page = page;
    s->npages = npages;
    s->ngone = ngone;
    s->state = SPAN_FREE;
    span_at(page + npages - 1)->first = page;
    bin_insert(s);
    return s;
}

/* ---- getting addresses ------------------------------------------------------------------------------ */

/* Pages that were never used join the free ones. */
static void
add_pages(Page page, size_t npages)
{
    set_gone(page, page + npages);
    heap.sys += npages;
    heap.gone += npages;
    run_free(page, npages, npages);
}

static bool
make_tables(Page page, size_t narenas)
{
    Arena *a = system_map(narenas * sizeof(Arena));
    if (a == NULL) {
        return false;
    }
    heap.meta_sys += narenas * sizeof(Arena);
    for (size_t i = 0; i < narenas; i++, a++, page += ARENA_PAGES) {
        a->page = page;
        a->next = heap.arenas;
        heap.arenas = a;
        size_t slot = page >> (ARENA_SHIFT - HPAGE_SHIFT);
        atomic_store_explicit(&heap.index[slot], a, memory_order_release);
    }
    return true;
}

/* Reserve room for a run of so many pages.  What is left of the last room becomes free. */
static bool
reserve(size_t npages)
{
    size_t narenas = (npages + ARENA_PAGES - 1) / ARENA_PAGES;
    size_t bytes = narenas * ARENA_BYTES;
    char *p = system_reserve(bytes);
    if (p == NULL) {
        return false;
    }
    Page page = page_of(p);
    if (!system_open(page, npages) || !make_tables(page, narenas)) {
        munmap(p, bytes);
        return false;
    }
    if (page != heap.grow_end) {
        size_t rest = heap.grow_end - heap.grow;
        if (rest > 0 && system_open(heap.grow, rest)) {
            add_pages(heap.grow, rest);
        }
        heap.grow = page;
    }
    heap.grow_end = page + narenas * ARENA_PAGES;
    return true;
}

/* Add a free run of at least so many pages. */
static bool
grow(size_t npages)
{
    if (heap.grow_end - heap.grow < npages && !reserve(npages)) {
        return false;
    }
    size_t step = min_size(max_size(npages, GROW_PAGES), heap.grow_end - heap.grow);
    if (!system_open(heap.grow, step)) {
        step = npages;
        if (!system_open(heap.grow, step)) {
            return false;
        }
    }
    Page page = heap.grow;
    heap.grow += step;
    add_pages(page, step);
    return true;
}

/* ---- giving memory back --------------------------------------------------------------------------------- */

/* Pages of a free run, none of them gone.  How many the system took. */
static size_t
release_pages(Page begin, Page end)
{
    Page from = (begin + heap.sys_page - 1) & ~(heap.sys_page - 1);
    Page to = end & ~(heap.sys_page - 1);
    if (from >= to || !system_release(page_address(from), (to - from) << HPAGE_SHIFT)) {
        return 0;
    }
    set_gone(from, to);
    return to - from;
}

/* Give back about `want` pages of a free run, from its end. */
static size_t
release_run(Span *s, size_t want)
{
    size_t done = 0;
    bin_remove(s);
    for (Page end = s->page + s->npages; end > s->page && done < want;) {
        if (is_gone(end - 1)) {
            end--;
            continue;
        }
        Page begin = end - 1;
        while (begin > s->page && end - begin < want - done && !is_gone(begin - 1)) {
            begin--;
        }
        done += release_pages(begin, end);
        end = begin;
    }
    s->ngone += done;
    bin_insert(s);
    return done;
}

/* Long runs first: fewer system calls, and the short ones are soon used again. */
static void
release(size_t want)
{
    for (int bin = BINS - 1; bin > 0 && want > 0; bin--) {
        Span *next;
        for (Span *s = heap.warm.first[bin]; s != NULL && want > 0; s = next) {
            next = s->next;
            size_t done = release_run(s, want);
            want -= min_size(done, want);
            heap.gone += done;
            heap.debt += done;
        }
    }
}

static void
release_surplus(void)
{
    size_t warm = heap.sys - heap.inuse - heap.gone;
    size_t base = FREE_PAGES + heap.inuse / 10;
    if (warm > base + heap.keep) {
        heap.keep = 0;
        release(warm - (base - base / 4));
    }
}

/* A run's entries are not needed while it is free, but the first and the last. */
static void
release_entries(const Span *run)
{
    Page begin = run->page + 1, end = run->page + run->npages - 1;
    size_t unit = heap.sys_page << HPAGE_SHIFT; /* a multiple of the system's page */
    while (begin < end) {
        Page stop = min_size(end, (begin / ARENA_PAGES + 1) * ARENA_PAGES);
        uintptr_t from = (uintptr_t)span_at(begin);
        uintptr_t to = from + (stop - begin) * sizeof(Span);
        from = (from + unit - 1) & ~(unit - 1);
        to &= ~(unit - 1);
        if (from < to) {
            (void)system_release((char *)from, to - from);
        }
        begin = stop;
    }
}

static void
release_tables(const Bins *bins)
{
    for (int bin = bin_of(TABLE_PAGES); bin < BINS; bin++) {
        for (const Span *s = bins->first[bin]; s != NULL; s = s->next) {
            release_entries(s);
        }
    }
}

/* All caches were emptied.  With `all` what loops missed is forgotten by and by. */
void
heap_trim(bool all)
{
    pthread_mutex_lock(&heap.mu);
    if (all) {
        heap.keep /= 2;
        size_t warm = heap.sys - heap.inuse - heap.gone;
        size_t base = heap.inuse / 10 + heap.keep;
        release(warm > base ? warm - base : 0);
    }
    release_tables(&heap.warm);
    release_tables(&heap.cold);
    heap.trim_mark = heap.small;
    atomic_store_explicit(&heap.trim_wanted, false, memory_order_relaxed);
    pthread_mutex_unlock(&heap.mu);
}

/* ---- taking and giving runs ------------------------------------------------------------------------------- */

/* Cut `npages` from a free run, preferably where its pages are in memory. */
static Page
run_cut(Span *s, size_t npages, Dirty *dirty)
{
    Page page = s->page, end = page + s->npages;
    size_t ngone = s->ngone;
    bin_remove(s);
    s->state = SPAN_NONE;
    bool from_end = ngone > 0 && is_gone(page) && !is_gone(end - 1);
    Page cut = from_end ? end - npages : page;
    size_t taken_gone = clear_bits(cut, cut + npages, dirty);
    if (s->npages > npages) {
        run_free(from_end ? page : page + npages, s->npages - npages, ngone - taken_gone);
    }
    heap.gone -= taken_gone;
    size_t missed = min_size(taken_gone, heap.debt);
    heap.debt -= missed;
    heap.keep = min_size(heap.keep + missed, KEEP_PAGES);
    return cut;
}

/* With heap.mu held.  NULL: the system has no more. */
static Span *
run_take(size_t npages, SpanState state, Dirty *dirty)
{
    Span *s = bins_find(&heap.warm, npages);
    if (s == NULL) {
        s = bins_find(&heap.cold, npages);
    }
    if (s == NULL) {
        if (!grow(npages) || (s = bins_find(&heap.cold, npages)) == NULL) {
            s = bins_find(&heap.warm, npages); /* what grew may have joined a warm run */
        }
    }
    if (s == NULL) {
        return NULL;
    }
    Page page = run_cut(s, npages, dirty);
    s = span_at(page);
    *s = (Span){.page = page, .npages = npages, .state = (uint8_t)state};
    heap.inuse += npages;
    heap.nspans++;
    return s;
}

static void
run_give(Span *s)
{
    heap.inuse -= s->npages;
    heap.nspans--;
    s->state = SPAN_NONE;
    run_free(s->page, s->npages, 0);
    release_surplus();
}

Span *
heap_alloc_small(int cls)
{
    Dirty dirty;
    pthread_mutex_lock(&heap.mu);
    Span *s = run_take(classes[cls].npages, SPAN_SMALL, &dirty);
    if (s != NULL) {
        heap.small += s->npages;
        heap.trim_mark = max_size(heap.trim_mark, heap.small);
    }
    pthread_mutex_unlock(&heap.mu);
    if (s == NULL) {
        return NULL;
    }
    s->cls = (uint8_t)cls;
    s->nblocks = classes[cls].nblocks;
    s->zero = dirty.begin == dirty.end;
    for (size_t i = 0; i < s->npages; i++) {
        Page page = s->page + i;
        Arena *a = arena_of(page);
        a->cls[page % ARENA_PAGES] = (uint8_t)cls;
        a->dist[page % ARENA_PAGES] = (uint8_t)i;
    }
    return s;
}

void
heap_free_small(Span *s)
{
    for (size_t i = 0; i < s->npages; i++) {
        Page page = s->page + i;
        arena_of(page)->cls[page % ARENA_PAGES] = 0;
    }
    pthread_mutex_lock(&heap.mu);
    ASAN_SHOW(page_address(s->page), s->npages << HPAGE_SHIFT);
    heap.small -= s->npages;
    if (heap.small + TRIM_PAGES < heap.trim_mark - heap.trim_mark / 4) {
        atomic_store_explicit(&heap.trim_wanted, true, memory_order_relaxed);
    }
    run_give(s);
    pthread_mutex_unlock(&heap.mu);
}

/* Outside of `dirty` the block is zero. */
char *
heap_alloc_large(size_t npages, Dirty *dirty)
{
    pthread_mutex_lock(&heap.mu);
    Span *s = run_take(npages, SPAN_LARGE, dirty);
    if (s != NULL) {
        heap.large_mallocs++;
        heap.large_bytes += npages << HPAGE_SHIFT;
    }
    pthread_mutex_unlock(&heap.mu);
    return s != NULL ? page_address(s->page) : NULL;
}

/* p is in an arena, but in no small span.  From p + dirty on the block is zero. */
void
heap_free_large(void *p, size_t dirty)
{
    pthread_mutex_lock(&heap.mu);
    Span *s = span_at(page_of(p));
    if (s->state != SPAN_LARGE || page_address(s->page) != p) {
        pthread_mutex_unlock(&heap.mu);
        throw_("mem_free: the address is no block in use (freed twice?)");
    }
    heap.large_frees++;
    heap.large_freed += s->npages << HPAGE_SHIFT;
    if (dirty < s->npages << HPAGE_SHIFT) {
        set_clean(s->page + ((dirty + HPAGE - 1) >> HPAGE_SHIFT), s->page + s->npages);
    }
    run_give(s);
    pthread_mutex_unlock(&heap.mu);
}

/* -1: the system refused. */
int
heap_init(void)
{
    heap.index = system_map(sizeof(heap.index[0]) << (VADDR_BITS - ARENA_SHIFT));
    if (heap.index == NULL) {
        return -1;
    }
    long bytes = sysconf(_SC_PAGESIZE);
    heap.sys_page = bytes > (long)HPAGE ? (size_t)bytes >> HPAGE_SHIFT : 1;
    return 0;
}
