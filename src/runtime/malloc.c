/* SPDX-License-Identifier: MIT
 *
 * malloc.c: blocks of memory: size classes, a cache for each thread, central lists.
 *
 * A thread takes small blocks from its Cache and puts them back there, whoever allocated them.
 * A Cache that has none gets a batch from its class's Central, which takes spans from the page
 * heap (mheap.c); one that has too many gives a batch back; a span whose last block comes back
 * goes to the page heap.  Blocks above 32 KiB are runs of pages from there.
 *
 * The sizes are Go's, since cap() of a slice shows them; they follow from the rule in
 * make_classes.  Memory of a span that was never handed out is `carved` from one piece, not
 * linked into a list, so that its pages are touched no sooner than needed, and so that what the
 * system gave as zeros need not be zeroed.
 *
 * Stopping the world.  Statistics that add up, a fork that finds the caches whole, and a trim
 * of all caches need them at rest, but a lock for each would cost as much as the rest.  So a
 * thread marks its Cache `busy`, then looks whether somebody wants the world to stop; who wants
 * that says so, then looks who is busy and waits for them.  Either sees the other if each
 * side's store comes before its load.  The side that stops has the kernel make sure of both
 * (membarrier); where it cannot, the other side has a fence of its own (WORLD_FENCE).  Who is
 * busy never waits for world.mu or the GIL.  All counters change only while busy.
 *
 * Rejected: Go's spans with bitmaps in the caches, since Go frees by sweeping spans and we
 * block by block; a list of foreign frees for each span (mimalloc): blocks of the values here
 * die mostly where they were born, and then the freeing thread's own cache is the faster place.
 */
#include "mheap.h"

#include <sched.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

World world = {.mu = PTHREAD_MUTEX_INITIALIZER};
Class classes[MAX_CLASSES];
int nclasses;

static Central central[MAX_CLASSES];
static _Thread_local Cache *tls_cache TLS_MODEL;
static pthread_key_t at_thread_end;
static bool checked; /* all blocks have red zones; settled before the first one */

/* ---- size classes --------------------------------------------------------------------------- */

#define FINE_MAX 1024 /* up to here sizes are looked up by 8 bytes, then by 128 */
#define BATCH_BYTES 16384

static uint8_t fine_class[FINE_MAX / 8 + 1];
static uint8_t coarse_class[(MAX_SMALL - FINE_MAX) / 128 + 1];

static inline int
class_of(size_t size)
{
    return size <= FINE_MAX ? fine_class[(size + 7) / 8]
                            : coarse_class[(size - FINE_MAX + 127) / 128];
}

static size_t
class_step(size_t size)
{
    if (size >= 2048) {
        return 256;
    }
    if (size >= 128) { /* an eighth of the power of two below: 12.5 % waste at most */
        return ((size_t)1 << (63 - __builtin_clzll(size))) / 8;
    }
    return size >= 32 ? 16 : 8;
}

/* The pages of a span whose rest, beyond the last block, is at most an eighth. */
static size_t
span_pages(size_t size)
{
    size_t npages = 1;
    while ((npages << HPAGE_SHIFT) % size > (npages << HPAGE_SHIFT) / 8) {
        npages++;
    }
    return npages;
}

static uint16_t
clamp(size_t n, size_t least, size_t most)
{
    return (uint16_t)(n < least ? least : n > most ? most : n);
}

static void
fill_class(Class *c, size_t size, size_t npages)
{
    c->nblocks = (uint16_t)((npages << HPAGE_SHIFT) / size);
    size_t most = (npages << HPAGE_SHIFT) / c->nblocks & ~(size_t)127;
    c->size = (uint32_t)(most > size ? most : size); /* no smaller number of blocks for it */
    c->npages = (uint16_t)npages;
    c->batch = clamp(BATCH_BYTES / c->size, 2, 64);
    c->least = size <= 128 ? 4 : size <= 1024 ? 2 : size <= 4096 ? 1 : 0;
}

/* Of sizes with as many blocks in as many pages only the largest is a class. */
static void
make_classes(void)
{
    for (size_t size = 8; size <= MAX_SMALL; size += class_step(size)) {
        size_t npages = span_pages(size);
        const Class *last = &classes[nclasses];
        if (nclasses == 0 || last->npages != npages ||
            last->nblocks != (npages << HPAGE_SHIFT) / size) {
            nclasses++;
        }
        INVARIANT(nclasses < MAX_CLASSES);
        fill_class(&classes[nclasses], size, npages);
    }
    nclasses++; /* counting class 0, which is none */
    for (size_t i = 0, cls = 1; i < Py_ARRAY_LENGTH(fine_class); i++) {
        cls += i * 8 > classes[cls].size;
        fine_class[i] = (uint8_t)cls;
    }
    for (size_t i = 0, cls = class_of(FINE_MAX); i < Py_ARRAY_LENGTH(coarse_class); i++) {
        cls += FINE_MAX + i * 128 > classes[cls].size;
        coarse_class[i] = (uint8_t)cls;
    }
}

/* ---- stopping the world --------------------------------------------------------------------------- */

#if defined(__linux__) && defined(__NR_membarrier)
enum { MEMBARRIER_EXPEDITED = 1 << 3, MEMBARRIER_REGISTER = 1 << 4 }; /* linux/membarrier.h */

static int
membarrier(int what)
{
    return (int)syscall(__NR_membarrier, what, 0);
}
#else
enum { MEMBARRIER_EXPEDITED, MEMBARRIER_REGISTER };

static int
membarrier(int what)
{
    (void)what;
    return -1;
}
#endif

static NOINLINE void
enter_slowly(Cache *c)
{
    for (;;) {
        atomic_thread_fence(memory_order_seq_cst);
        if (!(atomic_load(&world.slow) & WORLD_STOP)) {
            return;
        }
        atomic_store_explicit(&c->busy, false, memory_order_release);
        pthread_mutex_lock(&world.mu); /* until the world goes on */
        pthread_mutex_unlock(&world.mu);
        atomic_store_explicit(&c->busy, true, memory_order_relaxed);
    }
}

static inline void
enter(Cache *c)
{
    atomic_store_explicit(&c->busy, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (UNLIKELY(atomic_load_explicit(&world.slow, memory_order_acquire) != 0)) {
        enter_slowly(c);
    }
}

static inline void
leave(Cache *c)
{
    atomic_store_explicit(&c->busy, false, memory_order_release);
}

/* With world.mu held: whether another thread may be about to look at its cache. */
static bool
others_have_caches(void)
{
    const Cache *c = world.caches;
    return c != NULL && (c != tls_cache || c->next != NULL);
}

/* Until start_world no cache is in use and nothing in the heap changes.  By who is not busy. */
void
stop_world(void)
{
    pthread_mutex_lock(&world.mu);
    atomic_fetch_or(&world.slow, WORLD_STOP);
    atomic_thread_fence(memory_order_seq_cst);
    if (others_have_caches() && !(atomic_load(&world.slow) & WORLD_FENCE) &&
        membarrier(MEMBARRIER_EXPEDITED) < 0) {
        throw_("membarrier fails, which it did not at first");
    }
    for (Cache *c = world.caches; c != NULL; c = c->next) {
        while (atomic_load_explicit(&c->busy, memory_order_acquire)) {
            sched_yield();
        }
    }
}

void
start_world(void)
{
    atomic_fetch_and(&world.slow, ~WORLD_STOP);
    pthread_mutex_unlock(&world.mu);
}

/* ---- central lists: with the class's mu held --------------------------------------------------------- */

static void
central_list(Central *k, Span *s)
{
    s->listed = true;
    s->prev = NULL;
    s->next = k->spans;
    if (s->next != NULL) {
        s->next->prev = s;
    }
    k->spans = s;
}

static void
central_unlist(Central *k, Span *s)
{
    s->listed = false;
    *(s->prev != NULL ? &s->prev->next : &k->spans) = s->next;
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
}

static Span *
span_of_block(const void *p)
{
    Page page = page_of(p);
    const Arena *a = arena_of(page);
    return span_at(page - a->dist[page % ARENA_PAGES]);
}

/* Some blocks of s are no longer out. */
static void
central_regain(Central *k, Span *s)
{
    if (s->nout == 0) {
        if (s->listed) {
            central_unlist(k, s);
        }
        heap_free_small(s);
    }
    else if (!s->listed) {
        central_list(k, s);
    }
}

static void
central_put(Central *k, void *p)
{
    Span *s = span_of_block(p);
    if (s->state != SPAN_SMALL || s->nout == 0) {
        throw_("mem_free: a block was freed twice");
    }
    *(void **)p = s->free;
    s->free = p;
    s->nout--;
    central_regain(k, s);
}

/* Give b a list of up to `want` blocks that were in use before. */
static void
take_freed(Span *s, Bin *b, uint32_t want)
{
    void **last = &s->free;
    uint32_t n = 0;
    while (n < want && *last != NULL) {
        last = *last;
        n++;
    }
    b->head = s->free;
    b->n = n;
    s->free = *last;
    *last = NULL;
    s->nout += n;
}

static void
take_fresh(Span *s, Bin *b, uint32_t want, size_t size)
{
    uint32_t left = s->nblocks - s->ncarved;
    uint32_t n = want < left ? want : left;
    b->carve = page_address(s->page) + s->ncarved * size;
    b->carve_end = b->carve + n * size;
    b->zero = s->zero;
    s->ncarved += n;
    s->nout += n;
}

/* Fill an empty b.  False: no memory. */
static NOINLINE bool
refill(Bin *b, int cls)
{
    const Class *c = &classes[cls];
    Central *k = &central[cls];
    uint32_t more = b->limit * 2 > c->batch ? b->limit * 2 : c->batch;
    b->limit = more < 2u * c->batch ? more : 2u * c->batch;
    pthread_mutex_lock(&k->mu);
    Span *s = k->spans;
    if (s == NULL && (s = heap_alloc_small(cls)) != NULL) {
        central_list(k, s);
    }
    if (s != NULL) {
        if (s->free != NULL) {
            take_freed(s, b, c->batch);
        }
        else {
            take_fresh(s, b, c->batch, c->size);
        }
        if (s->free == NULL && s->ncarved == s->nblocks) {
            central_unlist(k, s);
        }
    }
    pthread_mutex_unlock(&k->mu);
    return s != NULL;
}

/* Give blocks of b's list back, but `left` of them. */
static NOINLINE void
give_back(Bin *b, int cls, uint32_t left)
{
    Central *k = &central[cls];
    pthread_mutex_lock(&k->mu);
    while (b->n > left) {
        void *p = b->head;
        b->head = *(void **)p;
        b->n--;
        central_put(k, p);
    }
    pthread_mutex_unlock(&k->mu);
}

/* What is not carved yet can mostly be as if it had never been taken.  Else it is freed, and
 * mcheck.c must not mistake what is there for what was there once. */
static void
give_back_carve(Bin *b, int cls)
{
    size_t size = classes[cls].size;
    uint32_t n = (uint32_t)((size_t)(b->carve_end - b->carve) / size);
    if (n == 0) {
        return;
    }
    Central *k = &central[cls];
    pthread_mutex_lock(&k->mu);
    Span *s = span_of_block(b->carve);
    if (page_address(s->page) + s->ncarved * size == b->carve_end) {
        s->ncarved -= n;
        s->nout -= n;
        central_regain(k, s);
        b->carve = b->carve_end;
    }
    for (; b->carve < b->carve_end; b->carve += size) {
        if (UNLIKELY(checked)) {
            memset(b->carve, 0, size);
        }
        central_put(k, b->carve);
    }
    pthread_mutex_unlock(&k->mu);
    b->carve = b->carve_end = NULL;
}

static void
cache_empty(Cache *c)
{
    for (int cls = 1; cls < nclasses; cls++) {
        Bin *b = &c->bin[cls];
        if (b->n > 0) {
            give_back(b, cls, 0);
        }
        give_back_carve(b, cls);
        b->limit = classes[cls].least;
    }
}

/* ---- caches ---------------------------------------------------------------------------------------------- */

/* With world.mu held.  NULL: no memory. */
static Cache *
cache_from_spare(void)
{
    Cache *c = world.spare;
    if (c != NULL) {
        world.spare = c->next;
        memset(c, 0, sizeof(*c));
        return c;
    }
    c = system_map(sizeof(Cache));
    if (c != NULL) {
        world.ncaches++;
    }
    return c;
}

/* This thread's first use. */
static NOINLINE Cache *
cache_new(void)
{
    pthread_mutex_lock(&world.mu);
    Cache *c = cache_from_spare();
    if (c != NULL) {
        for (int cls = 1; cls < nclasses; cls++) {
            c->bin[cls].limit = classes[cls].batch;
        }
        c->next = world.caches;
        if (c->next != NULL) {
            c->next->prev = c;
        }
        world.caches = c;
        pthread_setspecific(at_thread_end, c);
    }
    pthread_mutex_unlock(&world.mu);
    tls_cache = c;
    return c;
}

/* Its thread is gone.  With world.mu held. */
static void
cache_end(Cache *c)
{
    cache_empty(c);
    for (int cls = 1; cls < nclasses; cls++) {
        world.mallocs[cls] += c->bin[cls].mallocs;
        world.frees[cls] += c->bin[cls].frees;
    }
    *(c->prev != NULL ? &c->prev->next : &world.caches) = c->next;
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    c->next = world.spare;
    world.spare = c;
}

/* Destructors of other keys may allocate after this: then there is a Cache, and a call, again. */
static void
thread_ends(void *cache)
{
    tls_cache = NULL;
    pthread_mutex_lock(&world.mu);
    cache_end(cache);
    pthread_mutex_unlock(&world.mu);
}

static void
trim(bool all)
{
    stop_world();
    for (Cache *c = world.caches; c != NULL; c = c->next) {
        cache_empty(c);
    }
    heap_trim(all);
    start_world();
}

void
mem_trim(void)
{
    trim(true);
}

/* Much was freed since the last time: what caches hold may be all that keeps spans alive. */
static void
trim_if_wanted(void)
{
    if (UNLIKELY(atomic_load_explicit(&heap.trim_wanted, memory_order_relaxed))) {
        trim(false);
    }
}

/* ---- allocating ---------------------------------------------------------------------------------------------- */

/* n is a size of a block: 8, 24 or a multiple of 16. */
static inline void
zero_block(char *p, size_t n)
{
    if (n >= 512) {
        zero_lines(p, n);
        return;
    }
    if (n > 64) {
        memset(p, 0, n);
        return;
    }
    if (n < 16) {
        memset(p, 0, 8);
        return;
    }
    memset(p, 0, 16);
    memset(p + n - 16, 0, 16);
    if (n > 32) {
        memset(p + 16, 0, 16);
        memset(p + n - 32, 0, 16);
    }
}

static NOINLINE void *
large_alloc(Cache *c, size_t size, bool zero)
{
    if (size >> (VADDR_BITS - 1)) {
        return NULL;
    }
    Dirty dirty;
    enter(c);
    char *p = heap_alloc_large((size + HPAGE - 1) >> HPAGE_SHIFT, &dirty);
    leave(c);
    if (p == NULL) {
        return NULL;
    }
    ASAN_SHOW(p, (size + HPAGE - 1) & ~(HPAGE - 1));
    if (zero && dirty.begin < dirty.end) {
        zero_lines(page_address(dirty.begin), (dirty.end - dirty.begin) << HPAGE_SHIFT);
    }
    return p;
}

void *
raw_alloc(size_t size, bool zero)
{
    Cache *c = tls_cache;
    if (UNLIKELY(c == NULL) && (c = cache_new()) == NULL) {
        return NULL;
    }
    if (UNLIKELY(size > MAX_SMALL)) {
        return large_alloc(c, size, zero);
    }
    int cls = class_of(size);
    Bin *b = &c->bin[cls];
    enter(c);
    if (UNLIKELY(b->head == NULL && b->carve == b->carve_end) && !refill(b, cls)) {
        leave(c);
        return NULL;
    }
    size = classes[cls].size;
    char *p = b->head;
    if (LIKELY(p != NULL)) {
        ASAN_SHOW(p, size);
        b->head = *(void **)p;
        b->n--;
    }
    else {
        p = b->carve;
        b->carve += size;
        zero = zero && !b->zero;
    }
    b->mallocs++;
    leave(c);
    if (zero) {
        zero_block(p, size);
    }
    return p;
}

/* ---- freeing ---------------------------------------------------------------------------------------------------- */

static NOINLINE void
large_free(Cache *c, void *p, size_t dirty)
{
    enter(c);
    heap_free_large(p, dirty);
    leave(c);
    trim_if_wanted();
}

static NOINLINE void
give_back_some(Cache *c, int cls)
{
    Bin *b = &c->bin[cls];
    give_back(b, cls, b->limit / 2);
    leave(c);
    trim_if_wanted();
}

/* There is no memory for a Cache. */
static NOINLINE void
free_without_cache(void *p, int cls)
{
    pthread_mutex_lock(&world.mu);
    if (cls == 0) {
        heap_free_large(p, SIZE_MAX);
    }
    else {
        pthread_mutex_lock(&central[cls].mu);
        central_put(&central[cls], p);
        pthread_mutex_unlock(&central[cls].mu);
        world.frees[cls]++;
    }
    pthread_mutex_unlock(&world.mu);
}

static Arena *
arena_of_block(const void *p)
{
    Arena *a = arena_of(page_of(p));
    if (UNLIKELY(a == NULL)) {
        throw_("mem_free: the address was never allocated here");
    }
    return a;
}

void
raw_free(void *p, size_t dirty)
{
    int cls = arena_of_block(p)->cls[page_of(p) % ARENA_PAGES];
    Cache *c = tls_cache;
    if (UNLIKELY(c == NULL) && (c = cache_new()) == NULL) {
        free_without_cache(p, cls);
        return;
    }
    if (UNLIKELY(cls == 0)) {
        large_free(c, p, dirty);
        return;
    }
    Bin *b = &c->bin[cls];
    enter(c);
    if (UNLIKELY(b->head == p)) {
        throw_("mem_free: a block was freed twice");
    }
    *(void **)p = b->head;
    b->head = p;
    b->frees++;
    ASAN_HIDE((char *)p + sizeof(void *), classes[cls].size - sizeof(void *));
    if (UNLIKELY(++b->n > b->limit)) {
        give_back_some(c, cls);
        return;
    }
    leave(c);
}

size_t
raw_usable(const void *p)
{
    Page page = page_of(p);
    int cls = arena_of_block(p)->cls[page % ARENA_PAGES];
    return cls != 0 ? classes[cls].size : span_at(page)->npages << HPAGE_SHIFT;
}

/* ---- the face ----------------------------------------------------------------------------------------------------- */

void *
mem_alloc(size_t size, bool zero)
{
    return UNLIKELY(checked) ? check_alloc(size, zero) : raw_alloc(size, zero);
}

void
mem_free_clean(void *p, size_t dirty)
{
    if (UNLIKELY(checked) && p != NULL) {
        check_free(p, dirty);
    }
    else if (LIKELY(p != NULL)) {
        raw_free(p, dirty);
    }
}

void
mem_free(void *p)
{
    mem_free_clean(p, SIZE_MAX);
}

size_t
mem_usable(const void *p)
{
    return UNLIKELY(checked) ? check_usable(p) : raw_usable(p);
}

size_t
mem_round(size_t size)
{
    if (size <= MAX_SMALL) {
        return classes[class_of(size)].size;
    }
    size_t rounded = (size + HPAGE - 1) & ~(HPAGE - 1);
    return rounded >= size ? rounded : size; /* absurd: mem_alloc will say so */
}

/* ---- fork and start -------------------------------------------------------------------------------------------------- */

static void
after_fork_in_child(void)
{
    pthread_mutex_init(&world.mu, NULL);
    pthread_mutex_lock(&world.mu);
    for (Cache *c = world.caches, *next; c != NULL; c = next) {
        next = c->next;
        if (c != tls_cache) {
            cache_end(c); /* its thread is not here */
        }
    }
    if (!(atomic_load(&world.slow) & WORLD_FENCE)) {
        (void)membarrier(MEMBARRIER_REGISTER);
    }
    start_world();
}

int
mem_init(void)
{
    make_classes();
    zero_init();
    checked = check_wanted();
    for (int cls = 0; cls < nclasses; cls++) {
        pthread_mutex_init(&central[cls].mu, NULL);
    }
    if (membarrier(MEMBARRIER_REGISTER) < 0) {
        atomic_store(&world.slow, WORLD_FENCE);
    }
    if (heap_init() < 0 || pthread_key_create(&at_thread_end, thread_ends) != 0) {
        return -1;
    }
    return pthread_atfork(stop_world, start_world, after_fork_in_child) == 0 ? 0 : -1;
}
