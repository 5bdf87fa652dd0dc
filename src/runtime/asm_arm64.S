/* SPDX-License-Identifier: MIT
 *
 * asm_arm64.S: the switch, for AAPCS64 (Linux and macOS).
 *
 * The save area that both routines leave at the saved stack pointer, 176 bytes:
 *
 *     sp +   0   x19 x20      sp +  80   x29 x30 (frame, link)
 *     sp +  16   x21 x22      sp +  96   d8  d9
 *     sp +  32   x23 x24      sp + 112   d10 d11
 *     sp +  48   x25 x26      sp + 128   d12 d13
 *     sp +  64   x27 x28      sp + 144   d14 d15
 *                             sp + 160   fpcr
 *
 * go_slice_save runs below the stack that it copies out; go_slice_load runs
 * below the stack pointer of the goroutine that comes back.  x18 is the
 * platform's and is left alone.
 */
#if defined(__APPLE__)
#define FN(name) _##name
#define HIDE(name) .private_extern FN(name)
#define TYPE(name)
#else
#define FN(name) name
#define HIDE(name) .hidden name
#define TYPE(name) .type name, %function
#endif

        .text

/* x0 save_sp, x1 sp, x2 out, x3 in or entry; leaves x19 = x1, x20 = x3 */
.macro SAVE
        sub     sp, sp, #176
        stp     x19, x20, [sp, #0]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mrs     x9, fpcr
        str     x9, [sp, #160]
        mov     x9, sp
        str     x9, [x0]
        mov     x19, x1
        mov     x20, x3
        cbz     x2, 1f
        mov     x0, x2
        mov     x1, sp
        bl      FN(go_slice_save)
1:
.endm

/* void go_switch(void **save_sp, void *sp, G *out, G *in) */
        .globl  FN(go_switch)
        HIDE(go_switch)
        TYPE(go_switch)
        .p2align 4
FN(go_switch):
        SAVE
        mov     sp, x19
        mov     x0, x20
        bl      FN(go_slice_load)
        ldr     x9, [sp, #160]
        msr     fpcr, x9
        ldp     d14, d15, [sp, #144]
        ldp     d12, d13, [sp, #128]
        ldp     d10, d11, [sp, #112]
        ldp     d8, d9, [sp, #96]
        ldp     x29, x30, [sp, #80]
        ldp     x27, x28, [sp, #64]
        ldp     x25, x26, [sp, #48]
        ldp     x23, x24, [sp, #32]
        ldp     x21, x22, [sp, #16]
        ldp     x19, x20, [sp, #0]
        add     sp, sp, #176
        ret

/* void go_begin(void **save_sp, void *sp, G *out, void (*entry)(void)) */
        .globl  FN(go_begin)
        HIDE(go_begin)
        TYPE(go_begin)
        .p2align 4
FN(go_begin):
        SAVE
        mov     sp, x19
        mov     x29, xzr
        mov     x30, xzr
        blr     x20
        brk     #1

#if defined(__linux__)
        .section .note.GNU-stack, "", %progbits
#endif
