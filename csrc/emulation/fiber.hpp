// Fibers: stacks that are switched by hand. One fiber per CUDA thread, and one for the host thread
// that launched the kernel; control only ever passes between the host and one CUDA thread.
//
// The switch is a dozen instructions on x86-64 (a few nanoseconds) and ucontext elsewhere, or
// where MEDKERN_EMULATION_UCONTEXT is defined (a system call, 0.4 us).
#pragma once

#include <cstddef>

#include "sanitizer.hpp"

#if !defined(__x86_64__) && !defined(MEDKERN_EMULATION_UCONTEXT)
#define MEDKERN_EMULATION_UCONTEXT
#endif

#if defined(MEDKERN_EMULATION_UCONTEXT)
#include <ucontext.h>
#else
extern "C" void medkern_emulation_switch(void** saved_stack_pointer, void* stack_pointer);
// Keeps the registers that a called function must preserve; the rest is the caller's concern.
asm(R"(
.text
.weak medkern_emulation_switch
.hidden medkern_emulation_switch
.type medkern_emulation_switch, @function
medkern_emulation_switch:
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
.size medkern_emulation_switch, .-medkern_emulation_switch
)");
#endif

namespace medkern::emulation {

struct Fiber {
#if defined(MEDKERN_EMULATION_UCONTEXT)
  ucontext_t context;
#else
  void* stack_pointer;
#endif
  const void* stack;  // lowest address
  size_t stack_bytes;
  void* fake_stack;  // AddressSanitizer's, while switched away
  void* tsan_fiber;
};

// Makes the next switch to `fiber` call `entry`, which must never return.
MEDKERN_EMULATION_RUNTIME inline void prepare(Fiber& fiber, void* stack, size_t bytes,
                                              void (*entry)()) {
  fiber.stack = stack;
  fiber.stack_bytes = bytes;
  fiber.fake_stack = nullptr;
  fiber.tsan_fiber = tsan::create_fiber();
  asan::unpoison(stack, bytes);
#if defined(MEDKERN_EMULATION_UCONTEXT)
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack) + bytes);
  *--top = nullptr;  // return address of entry: the stack is aligned as a call would leave it
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.stack_pointer = top;
#endif
}

// Runs `to` until something switches back to `from`; `last` where nothing ever will.
MEDKERN_EMULATION_RUNTIME inline void switch_fiber(Fiber& from, Fiber& to, bool last = false) {
  tsan::switch_to(to.tsan_fiber);
  asan::start_switch(last ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#if defined(MEDKERN_EMULATION_UCONTEXT)
  swapcontext(&from.context, &to.context);
#else
  medkern_emulation_switch(&from.stack_pointer, to.stack_pointer);
#endif
  asan::finish_switch(from.fake_stack);
}

}  // namespace medkern::emulation
