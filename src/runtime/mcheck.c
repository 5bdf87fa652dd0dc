/* SPDX-License-Identifier: MIT
 *
 * mcheck.c: what finds mistakes in the use of the allocator, and in the allocator.
 *
 * Checked blocks.  In builds with GOROUTINES_DEBUG, and in others with GODEBUG=malloccheck=1 in
 * the environment, each block lies between two red zones:
 *
 *     raw block: | slack | Header | user's bytes, 64-aligned | tail, at least 32 bytes |
 *
 * All of the raw block is written, so that no Header of an earlier block survives within it.
 * The zones are looked at when the block is freed.  Freed bytes are poisoned, and when the same
 * place is allocated again the poison must still be there: else somebody wrote to what he had
 * freed.  All of these end the process with throw_, as does freeing twice or freeing what is
 * no block.  It is settled at import, so all blocks of a process are alike.
 *
 * heap_check looks at every span, bin and cache, with the world stopped.
 */
#include "mheap.h"

#define ALIGN 64
#define MIN_TAIL 32
#define ALIVE 0x616c6976652e2e2eu /* "alive..." */
#define FREED 0x66726565642e2e2eu
#define ZONE_BYTE 0xFA
#define FREED_BYTE 0xDF
#define NEW_BYTE 0xCD
#define SEEN_BYTES 4096 /* poison may be gone with its page: only what shares the Header's counts */

typedef struct {
    uint64_t magic;
    char *raw; /* where the raw block begins */
    size_t usable;
    unsigned char zone[24]; /* right before the user's bytes */
} Header;

/* Whether GODEBUG, a list of name=value, or else the kind of build asks for it. */
bool
check_wanted(void)
{
    const char *name = "malloccheck=", *env = getenv("GODEBUG");
    const char *at = env != NULL ? strstr(env, name) : NULL;
    if (at != NULL && (at == env || at[-1] == ',')) {
        return at[strlen(name)] != '0';
    }
#ifdef GOROUTINES_DEBUG
    return true;
#else
    return false;
#endif
}

static Header *
header_of(char *p)
{
    return (Header *)(void *)(p - sizeof(Header));
}

static char *
user_bytes(char *raw)
{
    return (char *)(((uintptr_t)raw + ALIGN + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));
}

static bool
all_are(const void *at, unsigned char byte, size_t n)
{
    const unsigned char *p = at;
    size_t i = 0;
    while (i < n && p[i] == byte) {
        i++;
    }
    return i == n;
}

static size_t
tail_size(const Header *h, const char *p)
{
    return raw_usable(h->raw) - (size_t)(p - h->raw) - h->usable;
}

static bool
zones_are_whole(const char *p, const Header *h)
{
    return all_are(h->zone, ZONE_BYTE, sizeof(h->zone)) &&
           all_are(p + h->usable, ZONE_BYTE, tail_size(h, p));
}

/* The place was a block before, and nothing of another kind since. */
static void
look_for_late_writes(char *raw, char *p)
{
    const Header *h = header_of(p);
    if (h->magic != FREED || h->raw != raw ||
        h->usable + MIN_TAIL > raw_usable(raw) - (size_t)(p - raw)) {
        return;
    }
    char *end_of_page = (char *)(((uintptr_t)h | (SEEN_BYTES - 1)) + 1);
    size_t n = end_of_page > p ? (size_t)(end_of_page - p) : 0;
    if (!all_are(p, FREED_BYTE, n < h->usable ? n : h->usable)) {
        throw_("mem_alloc: a block was written to after it was freed");
    }
}

void *
check_alloc(size_t size, bool zero)
{
    if (size >> (VADDR_BITS - 1)) {
        return NULL;
    }
    size_t usable = mem_round(size);
    char *raw = raw_alloc(2 * ALIGN + usable + MIN_TAIL, false);
    if (raw == NULL) {
        return NULL;
    }
    char *p = user_bytes(raw);
    look_for_late_writes(raw, p);
    Header *h = header_of(p);
    *h = (Header){.magic = ALIVE, .raw = raw, .usable = usable};
    memset(raw, ZONE_BYTE, (size_t)((char *)h - raw));
    memset(h->zone, ZONE_BYTE, sizeof(h->zone));
    memset(p + usable, ZONE_BYTE, tail_size(h, p));
    memset(p, zero ? 0 : NEW_BYTE, usable);
    return p;
}

static Header *
checked_header(char *p)
{
    Header *h = header_of(p);
    if (arena_of(page_of(p)) == NULL || (uintptr_t)p % ALIGN != 0 || arena_of(page_of(h)) == NULL) {
        throw_("mem_free: the address was never allocated here");
    }
    if (h->magic == FREED) {
        throw_("mem_free: a block was freed twice");
    }
    if (h->magic != ALIVE || user_bytes(h->raw) != p) {
        throw_("mem_free: the address is no block, or what is before it was written over");
    }
    return h;
}

void
check_free(void *user, size_t dirty)
{
    char *p = user;
    Header *h = checked_header(p);
    if (!zones_are_whole(p, h)) {
        throw_("mem_free: somebody wrote beyond the end of a block, or before it");
    }
    if (dirty < h->usable && !all_are(p + dirty, 0, h->usable - dirty)) {
        throw_("mem_free_clean: the block is not zero where it was said to be");
    }
    h->magic = FREED;
    memset(p, FREED_BYTE, h->usable);
    raw_free(h->raw, SIZE_MAX);
}

size_t
check_usable(const void *p)
{
    return checked_header((char *)p)->usable;
}

/* ---- the heap as a whole ------------------------------------------------------------------ */

/* What the spans come to, to be compared with the heap's own counts. */
typedef struct {
    size_t sys, inuse, gone, nspans, nlarge, large_bytes;
    uint64_t nout[MAX_CLASSES];
} Tally;

#define EXPECT(cond)                                                                               \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            return #cond;                                                                          \
        }                                                                                          \
    } while (0)

static size_t
list_length(void *const *p, size_t most)
{
    size_t n = 0;
    while (p != NULL && n <= most) {
        n++;
        p = *p;
    }
    return n;
}

static size_t
count_gone(const Span *s)
{
    size_t n = 0;
    for (Page page = s->page; page < s->page + s->npages; page++) {
        const Arena *a = arena_of(page);
        n += a->gone[page % ARENA_PAGES / 64] >> (page % 64) & 1;
    }
    return n;
}

/* Every page that is gone is clean; none that is in use is either. */
static bool
bits_are_right(const Span *s)
{
    for (Page page = s->page; page < s->page + s->npages; page++) {
        const Arena *a = arena_of(page);
        size_t word = page % ARENA_PAGES / 64;
        uint64_t bit = (uint64_t)1 << (page % 64);
        uint64_t clean = a->clean[word] & bit, gone = a->gone[word] & bit;
        if (s->state == SPAN_FREE ? gone && !clean : gone || clean) {
            return false;
        }
    }
    return true;
}

static const char *
check_free_run(const Span *s, Tally *t)
{
    Page end = s->page + s->npages;
    EXPECT(span_at(end - 1)->first == s->page);
    EXPECT(s->ngone == count_gone(s));
    EXPECT(arena_of(end) == NULL || span_at(end)->state != SPAN_FREE);
    EXPECT(s->next == NULL || s->next->prev == s);
    EXPECT(s->prev == NULL || s->prev->next == s);
    t->gone += s->ngone;
    return NULL;
}

static const char *
check_small_span(const Span *s, Tally *t)
{
    const Class *c = &classes[s->cls];
    EXPECT(s->cls > 0 && s->cls < nclasses);
    EXPECT(s->npages == c->npages && s->nblocks == c->nblocks);
    EXPECT(s->ncarved <= s->nblocks && s->nout <= s->ncarved && s->nout > 0);
    EXPECT(list_length(s->free, s->nblocks) + s->nout == s->ncarved);
    EXPECT(s->listed == (s->nout < s->nblocks));
    for (size_t i = 0; i < s->npages; i++) {
        const Arena *a = arena_of(s->page + i);
        EXPECT(a->cls[(s->page + i) % ARENA_PAGES] == s->cls);
        EXPECT(a->dist[(s->page + i) % ARENA_PAGES] == i);
    }
    t->nout[s->cls] += s->nout;
    return NULL;
}

static const char *
check_span(const Span *s, Tally *t)
{
    t->sys += s->npages;
    EXPECT(bits_are_right(s));
    if (s->state == SPAN_FREE) {
        return check_free_run(s, t);
    }
    t->nspans++;
    t->inuse += s->npages;
    if (s->state == SPAN_SMALL) {
        return check_small_span(s, t);
    }
    EXPECT(s->state == SPAN_LARGE);
    t->nlarge++;
    t->large_bytes += s->npages << HPAGE_SHIFT;
    return NULL;
}

static const char *
check_arena(const Arena *a, Tally *t)
{
    Page covered = 0; /* the end of the run that was seen last */
    for (size_t i = 0; i < ARENA_PAGES; i++) {
        const Span *s = &a->span[i];
        if (s->state == SPAN_NONE) {
            continue;
        }
        EXPECT(s->page == a->page + i && s->npages > 0);
        EXPECT(s->page >= covered);
        covered = s->page + s->npages;
        const char *wrong = check_span(s, t);
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

/* Blocks in caches count as out in their spans, but not as allocated. */
static const char *
check_caches(Tally *t)
{
    for (int cls = 1; cls < nclasses; cls++) {
        uint64_t out = world.mallocs[cls] - world.frees[cls];
        for (const Cache *c = world.caches; c != NULL; c = c->next) {
            const Bin *b = &c->bin[cls];
            EXPECT(list_length(b->head, b->n) == b->n);
            EXPECT(b->carve <= b->carve_end);
            out += b->mallocs - b->frees + b->n;
            out += (size_t)(b->carve_end - b->carve) / classes[cls].size;
        }
        EXPECT(out == t->nout[cls]);
    }
    return NULL;
}

/* With the world stopped.  NULL, or the condition that does not hold. */
const char *
heap_check(void)
{
    Tally t = {0};
    for (const Arena *a = heap.arenas; a != NULL; a = a->next) {
        const char *wrong = check_arena(a, &t);
        if (wrong != NULL) {
            return wrong;
        }
    }
    EXPECT(t.sys == heap.sys && t.inuse == heap.inuse);
    EXPECT(t.gone == heap.gone && heap.debt <= heap.gone);
    EXPECT(t.nspans == heap.nspans);
    EXPECT(t.nlarge == heap.large_mallocs - heap.large_frees);
    EXPECT(t.large_bytes == heap.large_bytes - heap.large_freed);
    return check_caches(&t);
}
