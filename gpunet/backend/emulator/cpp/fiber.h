// Fibers: stacks that one OS thread switches between by hand.
//
// A switch saves the registers that a called function must preserve and loads another stack
// pointer, about 2 ns. Three forms: x86-64, aarch64, and ucontext (a system call for the signal
// mask, some 100 times slower) for anything else or when GPUNET_UCONTEXT is defined.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(GPUNET_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define GPUNET_UCONTEXT
#endif
#ifdef GPUNET_UCONTEXT
#include <ucontext.h>
#endif

namespace gpunet::emulator {

#ifdef GPUNET_UCONTEXT

struct Context {
  ucontext_t state;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = stack;
  context.state.uc_stack.ss_size = bytes;
  context.state.uc_link = nullptr;
  makecontext(&context.state, entry, 0);
}

#else

struct Context {
  void* stack_pointer;
};

extern "C" void gpunet_switch(void** save, void* load);

#ifdef __APPLE__
#define GPUNET_ASM_HEAD ".private_extern _gpunet_switch\n.p2align 4\n_gpunet_switch:\n"
#else
#define GPUNET_ASM_HEAD                                                                           \
  ".hidden gpunet_switch\n.globl gpunet_switch\n.type gpunet_switch,%function\n.p2align 4\n"       \
  "gpunet_switch:\n"
#endif

#ifdef __x86_64__
constexpr size_t kSavedWords = 6;     // rbp, rbx, r12-r15
constexpr size_t kEntryWord = 6;      // the return address lies above them
constexpr size_t kFrameWords = 8;     // keeps rsp % 16 == 8 at entry, as after a call
asm(".text\n" GPUNET_ASM_HEAD R"(
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
)");
#else  // aarch64
constexpr size_t kEntryWord = 11;     // x30, the link register
constexpr size_t kFrameWords = 20;    // x19-x30 and d8-d15
asm(".text\n" GPUNET_ASM_HEAD R"(
  stp x19, x20, [sp, #-160]!
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x19, x20, [sp], #160
  ret
)");
#endif

inline void switch_context(Context& from, Context& to) {
  gpunet_switch(&from.stack_pointer, to.stack_pointer);
}

inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  auto top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15};
  auto frame = reinterpret_cast<uintptr_t*>(top) - kFrameWords;
  memset(frame, 0, kFrameWords * sizeof(uintptr_t));
  frame[kEntryWord] = reinterpret_cast<uintptr_t>(entry);
  context.stack_pointer = frame;
}

#endif

// A stack with what is needed to return to it. Made once, used for many threads and launches.
struct Fiber {
  Context context;
  char* stack;
  size_t bytes;
  Fiber* next;   // in the list of free fibers
  void* shadow;  // what a sanitizer knows it as
};

constexpr size_t kStackBytes = 256 * 1024;  // address space; pages become real when touched

// Returns a fiber that will run `entry`, or nullptr when no memory is left.
inline Fiber* make_fiber(unsigned index, void (*entry)()) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  mprotect(memory, page, PROT_NONE);  // an overflow faults instead of corrupting a neighbour
  auto fiber = static_cast<Fiber*>(calloc(1, sizeof(Fiber)));
  fiber->stack = static_cast<char*>(memory) + page;
  // Stacks that start at equal page offsets would all live in the same few cache sets.
  fiber->bytes = kStackBytes - (index % 32) * 128;
  prepare_context(fiber->context, fiber->stack, fiber->bytes, entry);
  return fiber;
}

}  // namespace gpunet::emulator
