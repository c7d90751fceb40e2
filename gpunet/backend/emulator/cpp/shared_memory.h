// The shared memory of a kernel: what there is, and filling it with poison before every block.
//
// Three kinds: arrays declared with SHARED_ARRAY register themselves when first reached; plain
// `__shared__` variables are thread-local variables of the kernel's library (see keywords.h),
// which makes the library's whole thread-local block shared memory; dynamic shared memory is
// allocated here, at its exact size.
#pragma once

#include <stdlib.h>
#include <string.h>

#include <vector>

#include "interface.h"

#ifdef __linux__
#include <link.h>
#endif

namespace gpunet::emulator {

#if defined(GPUNET_TSAN) || defined(GPUNET_ASAN)
constexpr bool kPrivate = true;  // every block has arrays of its own
#else
constexpr bool kPrivate = false;
#endif
constexpr int kPoison = 0xFF;  // reads as NaN in every float format and as -1 in integers
constexpr size_t kMaxStaticShared = 48 * 1024;
constexpr size_t kMaxShared = 227 * 1024;  // of a block on sm_90, static and dynamic together

#ifdef __linux__

struct ThreadLocalBlock {
  unsigned long module, offset;  // what __tls_get_addr takes
  size_t bytes;
  const void* inside;  // any address of the library that is searched for
};

extern "C" void* __tls_get_addr(void*);

// Called for every loaded library: keeps the thread-local block of the one that holds `inside`.
inline int match_library(dl_phdr_info* info, size_t, void* wanted) {
  auto block = static_cast<ThreadLocalBlock*>(wanted);
  const auto target = reinterpret_cast<size_t>(block->inside) - info->dlpi_addr;
  bool found = false;
  size_t bytes = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    if (header.p_type == PT_LOAD) found |= target - header.p_vaddr < header.p_memsz;
    if (header.p_type == PT_TLS) bytes = header.p_memsz;
  }
  if (!found) return 0;
  block->module = info->dlpi_tls_modid;
  block->bytes = bytes;
  return 1;
}

#endif

class SharedMemory {
 public:
  explicit SharedMemory(const Module* module) {
#ifdef __linux__
    thread_local_block_.inside = module;
    dl_iterate_phdr(match_library, &thread_local_block_);
#else
    (void)module;
#endif
  }

  // Adds a static array, unless it is known, and returns where it lies.
  void* add(void* begin, size_t bytes) {
    for (const Range& array : arrays_)
      if (array.key == begin) return array.begin;
    arrays_.push_back({begin, kPrivate ? malloc(bytes) : begin, bytes});
    static_bytes_ += bytes;
    memset(arrays_.back().begin, kPoison, bytes);
    return arrays_.back().begin;
  }

  void set_dynamic(size_t bytes) {
    if (bytes == dynamic_bytes_) return;
    free(dynamic_);
    dynamic_bytes_ = bytes;
    dynamic_ = bytes ? malloc(bytes) : nullptr;
  }

  // Makes all of it look never written. When a sanitizer watches, every block gets memory of its
  // own, at its exact size, as it has on a GPU.
  void start_block() {
    if (kPrivate) {
      arrays_.clear();
      static_bytes_ = 0;
      if (dynamic_bytes_) dynamic_ = malloc(dynamic_bytes_);
    }
    poison();
  }

  bool contains(const void* begin, size_t bytes) const {
    const auto inside = [=](const void* memory, size_t size) {
      const size_t offset = reinterpret_cast<size_t>(begin) - reinterpret_cast<size_t>(memory);
      return offset < size && bytes <= size - offset;
    };
    for (const Range& array : arrays_)
      if (inside(array.begin, array.bytes)) return true;
#ifdef __linux__
    ThreadLocalBlock block = thread_local_block_;
    if (block.bytes && inside(__tls_get_addr(&block), block.bytes)) return true;
#endif
    return inside(dynamic_, dynamic_bytes_);
  }

  size_t static_bytes() const { return static_bytes_; }
  void* dynamic() const { return dynamic_; }
  size_t dynamic_bytes() const { return dynamic_bytes_; }

 private:
  void poison() {
    for (const Range& array : arrays_) memset(array.begin, kPoison, array.bytes);
    if (dynamic_bytes_) memset(dynamic_, kPoison, dynamic_bytes_);
#ifdef __linux__
    if (thread_local_block_.bytes)
      memset(__tls_get_addr(&thread_local_block_), kPoison, thread_local_block_.bytes);
#endif
  }

  struct Range {
    const void* key;  // the static variable
    void* begin;
    size_t bytes;
  };
  std::vector<Range> arrays_;
  size_t static_bytes_ = 0;
  void* dynamic_ = nullptr;
  size_t dynamic_bytes_ = 0;
#ifdef __linux__
  ThreadLocalBlock thread_local_block_ = {};
#endif
};

}  // namespace gpunet::emulator
