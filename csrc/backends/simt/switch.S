// void swiftkv_simt_switch(void** save, void* load): keeps the registers that a callee must keep on this stack, stores
// the stack pointer to *save, and returns on the stack `load` that was left the same way (fiber.cpp makes the first).

#if defined(__APPLE__)
#define NAME _swiftkv_simt_switch
#else
#define NAME swiftkv_simt_switch
#endif

.text
.globl NAME
#if defined(__ELF__)
.hidden NAME
#endif

#if defined(__x86_64__)

.p2align 4
NAME:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret

#elif defined(__aarch64__)

.p2align 4
NAME:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret

#else
#error "the host executor has a switch for x86-64 and AArch64"
#endif

#if defined(__ELF__)
.section .note.GNU-stack, "", %progbits
#endif
