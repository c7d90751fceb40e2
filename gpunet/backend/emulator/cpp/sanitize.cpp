// A program that runs one kernel under a sanitizer, whose own runtime must be there from the start
// of a process. It is the emulator's runtime with a main function: `sanitize LIBRARY LAUNCH`.
//
// LAUNCH holds, all numbers in 8 bytes: the number of buffers, and of each its distance from a
// multiple of 256 bytes, its size and its bytes; the number of arguments, and of each the number of
// its buffer and its offset there, or -1 and the value; then struct Launch of interface.h.
#include "runtime.cpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#ifdef GPUNET_ASAN
extern "C" void __sanitizer_set_death_callback(void (*)());
extern "C" void __asan_poison_memory_region(const void volatile* begin, size_t bytes);
#endif

namespace gpunet::emulator {
namespace {

constexpr long long kKernelFailed = 3;  // exit statuses
constexpr long long kBadInput = 4;

FILE* input;

void read_input(void* to, size_t bytes) {
  if (fread(to, 1, bytes, input) == bytes) return;
  fprintf(stderr, "gpunet: the launch file is too short\n");
  exit(kBadInput);
}

long long read_number() {
  long long value;
  read_input(&value, sizeof value);
  return value;
}

// A buffer of exactly this size, as far from a multiple of 256 bytes as the original.
char* read_buffer() {
  constexpr size_t kAlignment = 256;
  const auto skew = static_cast<size_t>(read_number()), bytes = static_cast<size_t>(read_number());
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, skew + bytes)) exit(kBadInput);
  char* begin = static_cast<char*>(memory) + skew;
  read_input(begin, bytes);
#ifdef GPUNET_ASAN
  __asan_poison_memory_region(memory, skew);
#endif
  return begin;
}

#ifdef GPUNET_TSAN
// ThreadSanitizer takes it that whoever makes a fiber comes before whatever that fiber does: only
// the launch itself may make them.
void make_fibers() {
  free_fibers = nullptr;
  for (unsigned i = 0; i < block.count; ++i) {
    Fiber* fiber = make_fiber(i, fiber_main);
    if (!fiber) return set_failure(": no memory is left for the stack of another CUDA thread");
    fiber->shadow = sanitizers::make_shadow();
    free_fiber(fiber);
    threads[i] = {};  // of the block before
  }
}

// Each block gets an OS thread, for a copy of its own of `__shared__` variables. They run one after
// another, but by nothing that the sanitizer takes for an order.
volatile bool block_done;

void* run_block_and_stay(void*) {
  main_fiber.shadow = sanitizers::current_shadow();
  make_fibers();
  run_block();
  block_done = true;
  for (;;) pause();
}

void run_block_apart() {
  block_done = false;
  pthread_t thread;
  pthread_create(&thread, nullptr, run_block_and_stay, nullptr);
  while (!block_done) sched_yield();
}
#endif

#ifdef GPUNET_ASAN
void tell_thread() {
  const Index3 &b = *kernel->module->block, &t = *kernel->module->thread;
  fprintf(stderr, "gpunet: block (%u, %u, %u), thread (%u, %u, %u)\n", b.x, b.y, b.z, t.x, t.y,
          t.z);
}

// UndefinedBehaviorSanitizer ends with abort().
void tell_thread_and_exit(int) {
  tell_thread();
  _exit(1);
}
#endif

int run(const char* library, const char* launch) {
  input = fopen(launch, "rb");
  void* module = dlopen(library, RTLD_NOW);
  if (!input || !module) {
    fprintf(stderr, "gpunet: %s\n", module ? "the launch file cannot be read" : dlerror());
    return kBadInput;
  }
  std::vector<char*> buffers;
  for (long long left = read_number(); left; --left) {
    buffers.push_back(read_buffer());
    fprintf(stderr, "gpunet: buffer %p\n", static_cast<void*>(buffers.back()));
  }
  std::vector<unsigned long long> packed(sizeof(Launch) / 8);
  for (long long left = read_number(); left; --left) {
    const long long buffer = read_number(), value = read_number();
    packed.push_back(static_cast<unsigned long long>(
        buffer < 0 ? value
                   : reinterpret_cast<long long>(buffers[static_cast<size_t>(buffer)]) + value));
  }
  read_input(packed.data(), sizeof(Launch));
  const auto describe = reinterpret_cast<Module* (*)()>(dlsym(module, "gpunet_module"));
#ifdef GPUNET_TSAN
  start_block = run_block_apart;
#endif
#ifdef GPUNET_ASAN
  __sanitizer_set_death_callback(tell_thread);
  signal(SIGABRT, tell_thread_and_exit);
#endif
  if (!gpunet_launch(gpunet_attach(describe()), packed.data())) {
    fprintf(stderr, "gpunet: done\n");
    return 0;
  }
  fprintf(stderr, "gpunet: failed: %s\n", gpunet_error());
  return kKernelFailed;
}

}  // namespace
}  // namespace gpunet::emulator

int main(int, char** arguments) {
  const int status = gpunet::emulator::run(arguments[1], arguments[2]);
  const gpunet::emulator::sanitizers::Ignore ignore;  // what the end of the process does
  exit(status);
}
