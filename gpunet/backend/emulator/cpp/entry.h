// Makes a library of a kernel: deduces its parameters from its type and describes it as a Module.
#pragma once

#include <stddef.h>
#include <string.h>

#include <type_traits>

#include "keywords.h"
#include "sanitizers.h"

namespace gpunet::emulator {

// Names of types as the Python side knows them. A pointer to a vector type names its elements.
template <typename T>
struct TypeName {
  static constexpr const char* value = "?";
};
#define GPUNET_NAME(T, name)                     \
  template <>                                    \
  struct TypeName<T> {                           \
    static constexpr const char* value = name;   \
  };
#define GPUNET_NAMES(T, vector)                                            \
  GPUNET_NAME(T, #T)                                                       \
  GPUNET_NAME(vector##2, #T) GPUNET_NAME(vector##3, #T) GPUNET_NAME(vector##4, #T)
GPUNET_NAMES(signed char, char)
GPUNET_NAMES(unsigned char, uchar)
GPUNET_NAMES(short, short)
GPUNET_NAMES(unsigned short, ushort)
GPUNET_NAMES(int, int)
GPUNET_NAMES(unsigned int, uint)
GPUNET_NAMES(long long, longlong)
GPUNET_NAMES(unsigned long long, ulonglong)
GPUNET_NAMES(float, float)
GPUNET_NAMES(double, double)
GPUNET_NAME(char, "signed char")
GPUNET_NAME(long, "long long")
GPUNET_NAME(unsigned long, "unsigned long long")
GPUNET_NAME(bool, "bool")
GPUNET_NAME(__half, "__half")
GPUNET_NAME(__half2, "__half")
GPUNET_NAME(__nv_bfloat16, "__nv_bfloat16")
GPUNET_NAME(__nv_bfloat162, "__nv_bfloat16")
#undef GPUNET_NAMES
#undef GPUNET_NAME

template <typename T>
struct Parameter {
  static constexpr const char *prefix = "", *name = TypeName<T>::value, *suffix = "";
};
template <typename T>
struct Parameter<T*> {
  static constexpr const char *prefix = "", *name = TypeName<T>::value, *suffix = "*";
};
template <typename T>
struct Parameter<const T*> {
  static constexpr const char *prefix = "const ", *name = TypeName<T>::value, *suffix = "*";
};

template <typename T>
constexpr bool kIsParameter = std::is_pointer_v<T> || std::is_arithmetic_v<T> ||
                              std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>;

// Each argument lies in 8 bytes of its own.
template <typename T>
inline T load(const unsigned long long& slot) {
  static_assert(kIsParameter<T>, "a kernel's parameters must be pointers and scalars");
  T value;
  memcpy(&value, &slot, sizeof value);
  return value;
}

template <size_t... I>
struct Indices {};
template <size_t N, size_t... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <size_t... I>
struct MakeIndices<0, I...> {
  using type = Indices<I...>;
};

template <auto kernel>
struct Entry;

template <typename... A, void (*kernel)(A...)>
struct Entry<kernel> {
  static inline unsigned long long slots[sizeof...(A) + 1];

  static void bind(const Runtime* services, const void* arguments) {
    runtime = services;
    launched = slots;
    memcpy(slots, arguments, sizeof...(A) * sizeof slots[0]);
  }

  template <size_t... I>
  static void call(Indices<I...>) {
    kernel(load<A>(slots[I])...);
  }

  // Each CUDA thread that ThreadSanitizer watches gets a fiber of its own.
  GPUNET_UNWATCHED static void run_threads(Block& block) {
    while (block.started < block.count) {
      const unsigned index = block.order[block.started++];
      const Index3& at = block.coordinates[index];
      block.current = index;
      threadIdx = {at.x, at.y, at.z};
      call(typename MakeIndices<sizeof...(A)>::type());
      block.exited[index / kWarpSize] |= 1u << (index % kWarpSize);
      ++block.finished;
      if ((block.waiting | block.copying) && !runtime->thread_exited()) return;
      if (sanitizers::kOneThreadAFiber) return;
    }
  }

  static const char* signature() {
    static char text[(1 + ... + (__builtin_strlen(Parameter<A>::name) + sizeof "const *,"))];
    const char* comma = "";
    ((strcat(strcat(strcat(strcat(text, comma), Parameter<A>::prefix), Parameter<A>::name),
             Parameter<A>::suffix), comma = ","), ...);
    return text;
  }
};

template <auto kernel>
inline Module* describe() {
  static Module module = {Entry<kernel>::signature(), Entry<kernel>::bind,
                          Entry<kernel>::run_threads,
                          reinterpret_cast<Index3*>(&threadIdx),
                          reinterpret_cast<Index3*>(&blockIdx),
                          reinterpret_cast<Index3*>(&blockDim),
                          reinterpret_cast<Index3*>(&gridDim)};
  return &module;
}

}  // namespace gpunet::emulator

#define GPUNET_ENTRY(...)                                                                        \
  extern "C" __attribute__((visibility("default"))) gpunet::emulator::Module* gpunet_module() {   \
    return gpunet::emulator::describe<__VA_ARGS__>();                                             \
  }
