/* SPDX-License-Identifier: MIT
 *
 * asm_amd64.S: the switch, for the System V ABI on x86-64.
 *
 * The save area that both routines leave at the saved stack pointer:
 *
 *     sp +  0   mxcsr (4 bytes), x87 control word (2 bytes)
 *     sp +  8   r15
 *     sp + 16   r14
 *     sp + 24   r13
 *     sp + 32   r12
 *     sp + 40   rbx
 *     sp + 48   rbp
 *     sp + 56   return address        <- 16-aligned plus 8, as at any entry
 *
 * Copying happens in C on a stack that cannot hurt: go_slice_save runs below
 * the stack that it copies out; go_slice_load runs below the stack pointer of
 * the goroutine that comes back, hence below all that it writes.
 *
 * There is no shadow-stack (CET) marker in this file: returning into another
 * goroutine's frames would fault under one, and the linker then leaves it off
 * for the whole library.
 */
#if defined(__APPLE__)
#define FN(name) _##name
#define HIDE(name) .private_extern FN(name)
#define TYPE(name)
#else
#define FN(name) name
#define HIDE(name) .hidden name
#define TYPE(name) .type name, @function
#endif

        .text

/* rdi save_sp, rsi ..., rdx out */
.macro SAVE
        push    %rbp
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        sub     $8, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        mov     %rsp, (%rdi)
        mov     %rsi, %rbx
        mov     %rcx, %r12
        test    %rdx, %rdx
        jz      1f
        mov     %rdx, %rdi
        mov     %rsp, %rsi
        call    FN(go_slice_save)
1:
.endm

/* void go_switch(void **save_sp, void *sp, G *out, G *in) */
        .globl  FN(go_switch)
        HIDE(go_switch)
        TYPE(go_switch)
        .p2align 4
FN(go_switch):
        SAVE
        mov     %rbx, %rsp
        mov     %r12, %rdi
        call    FN(go_slice_load)
        ldmxcsr (%rsp)
        fldcw   4(%rsp)
        add     $8, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        ret

/* void go_begin(void **save_sp, void *sp, G *out, void (*entry)(void)) */
        .globl  FN(go_begin)
        HIDE(go_begin)
        TYPE(go_begin)
        .p2align 4
FN(go_begin):
        SAVE
        mov     %rbx, %rsp
        xor     %ebp, %ebp
        call    *%r12
        ud2

#if defined(__linux__)
        .section .note.GNU-stack, "", @progbits
#endif
