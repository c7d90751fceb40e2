// What the runtime (compiled once) and a kernel library (compiled once per kernel) know of each
// other. Both sides see only this file, so neither needs the other to link: the runtime is handed
// the address of a Module, and the module is handed a table of services.
#pragma once

#include <stddef.h>

namespace gpunet::emulator {

constexpr unsigned kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;  // of a block, as on every CUDA device
constexpr unsigned kMaxWarps = kMaxThreads / kWarpSize;

struct Index3 {
  unsigned x, y, z;
};

// Where a kernel waits: what for, and the line of the call as the compiler saw it.
struct Site {
  const char* what;
  const char* file;
  int line;
};

// The block in flight. The module's loop starts its threads; the runtime parks and resumes them.
struct Block {
  unsigned count;             // threads of the block
  unsigned started;           // how many of them were started
  unsigned finished;          // how many returned from the kernel
  unsigned waiting;           // how many are parked, or were released and still have to go on
  unsigned copying;           // asynchronous copies that were issued and not yet waited for
  unsigned current;           // the thread that runs now
  const unsigned* order;      // the order in which threads are started
  const Index3* coordinates;  // threadIdx of each thread
  unsigned exited[kMaxWarps]; // lanes that returned; lanes that never existed count as such
};

// Computes the results of a warp collective once, when its last lane has arrived.
// `requests[lane]` is what that lane handed in; `lanes` are those that take part.
// Null stands for __syncwarp, which computes nothing and alone orders memory.
using Complete = void (*)(void* const requests[kWarpSize], unsigned lanes);

// Performs an asynchronous copy; `from` is null where zeros are wanted.
using Copy = void (*)(void* to, const void* from);

// What the runtime does for device code.
struct Runtime {
  // Waits for every thread of the block; returns how many handed in a nonzero predicate.
  int (*barrier)(int predicate, const Site& site);
  // Waits for the lanes of `mask`, then lets `complete` fill in the results of all of them.
  void (*collective)(unsigned mask, void* request, Complete complete, const Site& site);
  // Lets every other thread that can run do so first. Ends the launch when the sum of the weights
  // tells that nothing else has happened for too long.
  void (*yield)(unsigned weight, const Site& site);
  // Tells that the current thread returned; false when parked threads must go on before new ones.
  bool (*thread_exited)();
  // Registers memory to poison before every block, and poisons it now. Returns where the array
  // lies: there, or in memory of its own for every block when a sanitizer watches.
  void* (*register_shared)(void* begin, size_t bytes);
  void* (*dynamic_shared)();
  // Ends the launch unless these bytes are shared memory, at a multiple of their number.
  void (*check_shared)(const void* begin, size_t bytes, const Site& site);
  // Asynchronous copies of the current thread: issued, closed into a group, and performed when all
  // but its latest `pending` groups have to be complete.
  void (*copy_async)(void* to, const void* from, Copy perform, const Site& site);
  void (*commit_copies)();
  void (*wait_for_copies)(unsigned pending);
  // Tell ThreadSanitizer of an atomic access, and of a fence for the block or the whole device.
  void (*atomic_done)(void* address);
  void (*fence)(bool device);
  void (*print)(const char* format, ...);
  // Ends the launch with an error; does not return.
  void (*fail)(const char* format, ...);
};

// A compiled kernel, as its library describes it.
struct Module {
  const char* signature;                       // "const float*,long long": one name a parameter
  void (*bind)(const Runtime*, const void*);   // takes the services and the packed arguments
  void (*run_threads)(Block&);                 // starts threads until none is left to start
  Index3 *thread, *block, *block_shape, *grid; // threadIdx, blockIdx, blockDim, gridDim
};

// One launch, as Python packs it (struct format "=8I2Q"); the arguments follow, 8 bytes each.
struct Launch {
  unsigned grid[3];
  unsigned block[3];
  unsigned schedule;  // Schedule
  unsigned reserved;
  unsigned long long seed;
  unsigned long long dynamic_shared;  // bytes
};

enum Schedule : unsigned { kForward, kReverse, kRandom };

}  // namespace gpunet::emulator
