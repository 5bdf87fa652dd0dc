/* SPDX-License-Identifier: MIT
 *
 * switch_test.c: the assembler's switch alone, without Python.
 *
 * Thousands of coroutines run on one thread's stack below `base`, as goroutines
 * do, and hand it to each other at random.  Each switch goes through a thunk
 * that fills the callee-saved registers with noise and reads them back; the
 * floating-point control words, the locals of all frames, alignment and what the
 * assembler tells go_slice_save are compared too, while a timer's signals
 * overwrite whatever lies below the stack pointer.
 *
 * It links with asm_amd64.S or asm_arm64.S, on its own: see scripts/arm64.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define NOINLINE __attribute__((noinline))

#define LIVE 3000        /* coroutines at a time */
#define LIVES 30000      /* coroutines begun in each round */
#define DEEP_EVERY 500   /* one in so many has a slice of a megabyte */
#define DEEP 2000        /* its frames */
#define SHALLOW 8        /* frames of the others, at the most */
#define BASE_MARGIN 8192 /* what main may use above the base */
#define BELOW 65536      /* what it has below, in the second round */

/* ---- what differs between CPUs ------------------------------------------------- */

#if defined(__x86_64__)
#define REGISTERS 6 /* rbx rbp r12 r13 r14 r15 */
#define CALL_PUSHES 8
#elif defined(__aarch64__)
#define REGISTERS 19 /* x19 to x29, d8 to d15 */
#define CALL_PUSHES 0
#else
#error "no switch for this CPU"
#endif

typedef struct {
    uint64_t want[REGISTERS], got[REGISTERS];
} Registers;

typedef struct G G;

/* The entry of coroutines: coroutine_main(stack pointer, frame pointer). */
void entry(void) __asm__("entry");
void coroutine_main(char *sp, void *fp) __asm__("coroutine_main");

/* Call go(save_sp, sp, out, last) with r->want in the callee-saved registers,
 * then read r->got from them. */
void call_go(void **save_sp, void *sp, G *out, void *last, void (*go)(void),
             Registers *r) __asm__("call_go");

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl entry\n"
        ".p2align 4\n"
        "entry:\n"
        "mov %rsp, %rdi\n"
        "mov %rbp, %rsi\n"
        "jmp coroutine_main\n"
        ".globl call_go\n"
        ".p2align 4\n"
        "call_go:\n"
        "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
        "push %r9\n"
        "mov 0(%r9), %rbx\n"
        "mov 8(%r9), %rbp\n"
        "mov 16(%r9), %r12\n"
        "mov 24(%r9), %r13\n"
        "mov 32(%r9), %r14\n"
        "mov 40(%r9), %r15\n"
        "call *%r8\n"
        "pop %r9\n"
        "mov %rbx, 48(%r9)\n"
        "mov %rbp, 56(%r9)\n"
        "mov %r12, 64(%r9)\n"
        "mov %r13, 72(%r9)\n"
        "mov %r14, 80(%r9)\n"
        "mov %r15, 88(%r9)\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
        "ret\n");

/* Rounding, flush to zero and denormals are zero; x87 rounding and precision. */
#define MXCSR_CONTROL 0xE040u
#define X87_CONTROL 0x0F00u

static uint64_t
control_get(void)
{
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    return (uint64_t)(mxcsr & MXCSR_CONTROL) << 16 | (x87 & X87_CONTROL);
}

static void
control_set(uint64_t noise)
{
    uint32_t mxcsr;
    uint16_t x87;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(x87));
    mxcsr = (mxcsr & ~MXCSR_CONTROL) | ((uint32_t)noise & MXCSR_CONTROL);
    x87 = (uint16_t)((x87 & ~X87_CONTROL) | (noise >> 32 & X87_CONTROL));
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("fldcw %0" : : "m"(x87));
}

#else
__asm__(".text\n"
        ".globl entry\n"
        ".p2align 4\n"
        "entry:\n"
        "mov x0, sp\n"
        "mov x1, x29\n"
        "b coroutine_main\n"
        ".globl call_go\n"
        ".p2align 4\n"
        "call_go:\n"
        "sub sp, sp, #176\n"
        "stp x19, x20, [sp, #0]\n"
        "stp x21, x22, [sp, #16]\n"
        "stp x23, x24, [sp, #32]\n"
        "stp x25, x26, [sp, #48]\n"
        "stp x27, x28, [sp, #64]\n"
        "stp x29, x30, [sp, #80]\n"
        "stp d8, d9, [sp, #96]\n"
        "stp d10, d11, [sp, #112]\n"
        "stp d12, d13, [sp, #128]\n"
        "stp d14, d15, [sp, #144]\n"
        "str x5, [sp, #160]\n"
        "ldp x19, x20, [x5, #0]\n"
        "ldp x21, x22, [x5, #16]\n"
        "ldp x23, x24, [x5, #32]\n"
        "ldp x25, x26, [x5, #48]\n"
        "ldp x27, x28, [x5, #64]\n"
        "ldr x29, [x5, #80]\n"
        "ldp d8, d9, [x5, #88]\n"
        "ldp d10, d11, [x5, #104]\n"
        "ldp d12, d13, [x5, #120]\n"
        "ldp d14, d15, [x5, #136]\n"
        "blr x4\n"
        "ldr x9, [sp, #160]\n"
        "add x9, x9, #152\n"
        "stp x19, x20, [x9, #0]\n"
        "stp x21, x22, [x9, #16]\n"
        "stp x23, x24, [x9, #32]\n"
        "stp x25, x26, [x9, #48]\n"
        "stp x27, x28, [x9, #64]\n"
        "str x29, [x9, #80]\n"
        "stp d8, d9, [x9, #88]\n"
        "stp d10, d11, [x9, #104]\n"
        "stp d12, d13, [x9, #120]\n"
        "stp d14, d15, [x9, #136]\n"
        "ldp x19, x20, [sp, #0]\n"
        "ldp x21, x22, [sp, #16]\n"
        "ldp x23, x24, [sp, #32]\n"
        "ldp x25, x26, [sp, #48]\n"
        "ldp x27, x28, [sp, #64]\n"
        "ldp x29, x30, [sp, #80]\n"
        "ldp d8, d9, [sp, #96]\n"
        "ldp d10, d11, [sp, #112]\n"
        "ldp d12, d13, [sp, #128]\n"
        "ldp d14, d15, [sp, #144]\n"
        "add sp, sp, #176\n"
        "ret\n");

/* Default NaN, flush to zero, rounding. */
#define FPCR_CONTROL UINT64_C(0x03C00000)

static uint64_t
control_get(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr & FPCR_CONTROL;
}

static void
control_set(uint64_t noise)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    fpcr = (fpcr & ~FPCR_CONTROL) | (noise & FPCR_CONTROL);
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
}
#endif

/* ---- checks ----------------------------------------------------------------------- */

#define CHECK(ok)                                                                                  \
    do {                                                                                           \
        if (!(ok)) {                                                                               \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #ok);                       \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

#define ALIGNED(p) ((uintptr_t)(p) % 16 == 0)

/* splitmix64 */
static uint64_t
next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t
checksum(const uint64_t *words, size_t n)
{
    uint64_t sum = n;
    for (size_t i = 0; i < n; i++) {
        sum = (sum ^ words[i]) * 0x100000001B3u;
    }
    return sum;
}

/* ---- the switch and what it calls ------------------------------------------------- */

struct G {
    char *slice; /* first, so that the addresses of g and of g->sp differ */
    void *sp;
    size_t slice_len, slice_cap;
    bool started;
    size_t index;     /* in live[] */
    uint64_t random;  /* state */
    uint64_t control; /* its floating-point control words */
    Registers registers;
};

void go_switch(void **save_sp, void *sp, G *out, G *in);
void go_begin(void **save_sp, void *sp, G *out, void (*entry)(void));
void go_slice_save(G *g, char *sp);
void go_slice_load(G *g);

static char *base;
static G main_g;
static G *prev, *cur; /* the ends of the latest switch; prev NULL: it had ended */
static uint64_t switch_random = 1;
static long nswitch;
static long nsave, nload; /* calls of go_slice_*, as counted by them */
static long saves, loads; /* and as expected */

/* The contract of stack.c's. */
void
go_slice_save(G *g, char *sp)
{
    char *frame = __builtin_frame_address(0);
    size_t n = sp < base ? (size_t)(base - sp) : 0;
    CHECK(ALIGNED(frame) && frame < sp);
    CHECK(g == prev && sp == g->sp && ALIGNED(sp));
    if (n > g->slice_cap || g->slice_cap > n + 4096) {
        free(g->slice);
        g->slice = malloc(n);
        CHECK(g->slice != NULL || n == 0);
        g->slice_cap = n;
    }
    g->slice_len = n;
    if (n > 0) {
        memcpy(g->slice, sp, n);
    }
    nsave++;
}

void
go_slice_load(G *g)
{
    char *frame = __builtin_frame_address(0);
    CHECK(ALIGNED(frame) && frame < (char *)g->sp);
    CHECK(g == cur);
    if (g->slice_len > 0) {
        memcpy(base - g->slice_len, g->slice, g->slice_len);
    }
    nload++;
}

/* Leave `from`, the running one (NULL: it has ended), for `to`. */
static NOINLINE void
switch_to(G *from, G *to)
{
    void *nowhere, **save = from != NULL ? &from->sp : &nowhere;
    Registers unused, *r = from != NULL ? &from->registers : &unused;
    for (int i = 0; i < REGISTERS; i++) {
        r->want[i] = next_random(&switch_random);
    }
    prev = from;
    cur = to;
    nswitch++;
    saves += from != NULL;
    if (to->started) {
        loads++;
        call_go(save, to->sp, from, to, (void (*)(void))go_switch, r);
    }
    else {
        to->started = true;
        call_go(save, base, from, (void *)entry, (void (*)(void))go_begin, r);
    }
    CHECK(from != NULL && cur == from);
    CHECK(saves == nsave && loads == nload);
    CHECK(memcmp(r->got, r->want, sizeof(r->want)) == 0);
    CHECK(control_get() == from->control);
}

/* ---- coroutines --------------------------------------------------------------------- */

static G pool[LIVE];
static G *live[LIVE]; /* the first nlive have not ended */
static size_t nlive;
static long nbegun;

/* The one to run next: main now and then, or if there is no other. */
static G *
pick(G *g)
{
    uint64_t random = next_random(&switch_random);
    if (nlive == 0 || (g != &main_g && random % 64 == 0)) {
        return &main_g;
    }
    return live[(random >> 32) % nlive];
}

static void
yield(void)
{
    G *g = cur, *to = pick(g);
    if (to != g) {
        switch_to(g, to);
    }
}

typedef struct Frame {
    struct Frame *up;
    G *g;
    const uint64_t *words;
    size_t n;
    uint64_t sum;
} Frame;

static void
check_frames(const Frame *f, G *g, int most)
{
    for (; f != NULL && most > 0; f = f->up, most--) {
        CHECK(f->g == g && checksum(f->words, f->n) == f->sum);
    }
}

static NOINLINE void
descend(Frame *up, int depth, uint64_t yield_every)
{
    G *g = cur;
    size_t n = 1 + next_random(&g->random) % 64;
    uint64_t words[n];
    for (size_t i = 0; i < n; i++) {
        words[i] = next_random(&g->random);
    }
    Frame f = {up, g, words, n, checksum(words, n)};
    for (int i = 0; i < 2; i++) {
        if (next_random(&g->random) % yield_every == 0) {
            yield();
            check_frames(&f, g, 10);
        }
        if (i == 0 && depth > 1) {
            descend(&f, depth - 1, yield_every);
        }
    }
    check_frames(&f, g, 1);
}

void
coroutine_main(char *sp, void *fp)
{
    G *g = cur;
    CHECK(sp == base - CALL_PUSHES && ALIGNED(base));
    CHECK(fp == NULL); /* so chains of frames end here */
    CHECK(saves == nsave && loads == nload);
    control_set(next_random(&g->random));
    g->control = control_get();

    if (next_random(&g->random) % DEEP_EVERY == 0) {
        descend(NULL, DEEP, DEEP / 4);
    }
    for (int i = 0; i < 4; i++) {
        descend(NULL, 1 + (int)(next_random(&g->random) % SHALLOW), 2);
    }

    /* Its G may begin another life at once, even by the switch that ends this one. */
    if (nbegun < LIVES) {
        nbegun++;
        g->started = false;
    }
    else {
        nlive--;
        live[g->index] = live[nlive];
        live[g->index]->index = g->index;
    }
    switch_to(NULL, pick(NULL));
}

/* One round, with main as the coroutine that may have nothing below the base. */
static NOINLINE void
run(size_t least_slice, size_t most_slice)
{
    for (nlive = 0; nlive < LIVE; nlive++) {
        G *g = &pool[nlive];
        g->index = nlive;
        g->started = false;
        g->random = next_random(&switch_random);
        live[nlive] = g;
    }
    nbegun = LIVE;
    while (nlive > 0) {
        yield();
        CHECK(main_g.slice_len >= least_slice && main_g.slice_len <= most_slice);
    }
}

static NOINLINE void
run_below(void)
{
    uint64_t words[BELOW / sizeof(uint64_t)];
    size_t n = sizeof(words) / sizeof(words[0]);
    for (size_t i = 0; i < n; i++) {
        words[i] = next_random(&switch_random);
    }
    uint64_t sum = checksum(words, n);
    run(BELOW - BASE_MARGIN, BELOW + BASE_MARGIN);
    CHECK(checksum(words, n) == sum);
}

/* A signal's frame begins right below the stack pointer. */
static void
overwrite(int signal)
{
    volatile char trash[2048];
    for (size_t i = 0; i < sizeof(trash); i++) {
        trash[i] = (char)signal;
    }
}

int
main(void)
{
    struct sigaction action = {.sa_handler = overwrite, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);

    base = (char *)(((uintptr_t)__builtin_frame_address(0) - BASE_MARGIN) & ~(uintptr_t)63);
    cur = &main_g;
    main_g.started = true;
    main_g.control = control_get();
    run(0, 0);
    run_below();
    printf("ok %ld switches\n", nswitch);
    return 0;
}
