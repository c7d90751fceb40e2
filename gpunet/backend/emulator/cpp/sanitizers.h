// What ThreadSanitizer is told, so that it judges CUDA threads as it judges those of a CPU.
//
// Every CUDA thread is a fiber of its own to it, which nothing orders but what orders memory on a
// GPU: barriers, __syncwarp between its lanes, and atomics after a fence. The runtime itself is
// compiled without the sanitizer. In ordinary builds all of this is empty.
#pragma once

#include <stddef.h>

#ifdef GPUNET_TSAN
#include <sys/mman.h>

extern "C" {
void* __tsan_create_fiber(unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace gpunet::emulator::sanitizers {

#ifdef GPUNET_TSAN

constexpr bool kOneThreadAFiber = true;

inline void* make_shadow() { return __tsan_create_fiber(0); }
inline void* current_shadow() { return __tsan_get_current_fiber(); }
inline void switch_to(void* shadow) { __tsan_switch_to_fiber(shadow, 1); }  // 1: orders nothing
inline void name(void* shadow, const char* text) { __tsan_set_fiber_name(shadow, text); }

// A point in time that orders memory: what was done before a release comes before what is done
// after an acquire. Every barrier gets a new one; only its address counts.
inline void* new_point() {
  constexpr size_t kPoints = size_t{1} << 24;
  static char* next = static_cast<char*>(mmap(nullptr, 8 * kPoints, PROT_READ,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return next += 8;
}
inline void release(void* point) { __tsan_release(point); }
inline void acquire(void* point) { __tsan_acquire(point); }

// While it lives, memory accesses of this thread do not count: they are the emulator's own.
struct Ignore {
  Ignore() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Ignore() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  }
};

#else

constexpr bool kOneThreadAFiber = false;

inline void* make_shadow() { return nullptr; }
inline void* current_shadow() { return nullptr; }
inline void switch_to(void*) {}
inline void name(void*, const char*) {}
inline void* new_point() { return nullptr; }
inline void release(void*) {}
inline void acquire(void*) {}
struct Ignore {
  Ignore() {}
};

#endif

}  // namespace gpunet::emulator::sanitizers
