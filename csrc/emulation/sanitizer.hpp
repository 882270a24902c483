// What AddressSanitizer and ThreadSanitizer must be told about fibers; nothing in a plain build.
//
// The emulator switches stacks and hands values between fibers behind the sanitizers' backs. Its
// own bookkeeping is marked MEDKERN_EMULATION_RUNTIME, which keeps it out of ThreadSanitizer's
// sight: otherwise each barrier would look like a race. The order that barriers and warp
// operations establish is then stated with `tsan::release` and `tsan::acquire`.
#pragma once

#include <cstddef>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MEDKERN_EMULATION_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define MEDKERN_EMULATION_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define MEDKERN_EMULATION_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define MEDKERN_EMULATION_ASAN 1
#endif

#if defined(MEDKERN_EMULATION_TSAN)
// clang's no_sanitize would keep the calls that mark entry and exit, which must pair up per fiber.
#if defined(__clang__)
#define MEDKERN_EMULATION_RUNTIME __attribute__((noinline, disable_sanitizer_instrumentation))
#else
#define MEDKERN_EMULATION_RUNTIME __attribute__((noinline, no_sanitize("thread")))
#endif
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#else
#define MEDKERN_EMULATION_RUNTIME
#endif

#if defined(MEDKERN_EMULATION_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace medkern::emulation {

namespace tsan {

// Instrumented wrappers would push onto one fiber's call stack and pop from the other's.

#if defined(MEDKERN_EMULATION_TSAN)
constexpr bool enabled = true;
MEDKERN_EMULATION_RUNTIME inline void* current_fiber() { return __tsan_get_current_fiber(); }
MEDKERN_EMULATION_RUNTIME inline void* create_fiber() { return __tsan_create_fiber(0); }
MEDKERN_EMULATION_RUNTIME inline void destroy_fiber(void* fiber) { __tsan_destroy_fiber(fiber); }
MEDKERN_EMULATION_RUNTIME inline void acquire(void* tag) { __tsan_acquire(tag); }
MEDKERN_EMULATION_RUNTIME inline void release(void* tag) { __tsan_release(tag); }
// 1: the switch itself orders nothing, so that two CUDA threads stay unordered.
MEDKERN_EMULATION_RUNTIME inline void switch_to(void* fiber) { __tsan_switch_to_fiber(fiber, 1); }
#else
constexpr bool enabled = false;
inline void* current_fiber() { return nullptr; }
inline void* create_fiber() { return nullptr; }
inline void destroy_fiber(void*) {}
inline void acquire(void*) {}
inline void release(void*) {}
inline void switch_to(void*) {}
#endif

}  // namespace tsan

namespace asan {

#if defined(MEDKERN_EMULATION_ASAN)
inline void start_switch(void** fake_stack, const void* bottom, size_t size) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
}
inline void finish_switch(void* fake_stack, const void** bottom = nullptr, size_t* size = nullptr) {
  __sanitizer_finish_switch_fiber(fake_stack, bottom, size);
}
inline void unpoison(void* address, size_t size) { __asan_unpoison_memory_region(address, size); }
#else
inline void start_switch(void**, const void*, size_t) {}
inline void finish_switch(void*, const void** = nullptr, size_t* = nullptr) {}
inline void unpoison(void*, size_t) {}
#endif

}  // namespace asan

}  // namespace medkern::emulation
