// The emulator's runtime: runs the threads of one CUDA block at a time on fibers.
//
// Threads are started one after another on the same fiber. Only a thread that has to wait - at a
// barrier or a warp collective - keeps its fiber; the next thread then starts on another one from
// the pool. A kernel that never waits therefore costs a loop and nothing else.
//
// One launch runs at a time in a process (they take a lock): the state below exists once.
#include <stdarg.h>
#include <stdio.h>

#include <mutex>
#include <vector>

#include "fiber.h"
#include "interface.h"
#include "shared_memory.h"

namespace gpunet::emulator {
namespace {

struct Thread {
  Fiber* fiber;      // where to go on, while it waits
  const Site* site;  // what it waits for; null while it runs
  void* request;     // for a warp collective
};

// Lanes of a warp that wait for one another.
struct Group {
  unsigned mask, arrived;
  Complete complete;
  const Site* site;
};

struct Warp {
  unsigned count;
  Group groups[kWarpSize];
};

struct Kernel {
  Module* module;
  SharedMemory shared;
};

// Threads that were released and will go on, first in, first out.
struct Ready {
  unsigned head, tail;
  unsigned threads[kMaxThreads];
  unsigned size() const { return tail - head; }
  void push(unsigned thread) { threads[tail++ % kMaxThreads] = thread; }
  unsigned pop() { return threads[head++ % kMaxThreads]; }
};

std::mutex launching;
Kernel* kernel;
Block block;
Thread threads[kMaxThreads];
Warp warps[kMaxWarps];
Ready ready;
unsigned order[kMaxThreads];
Index3 coordinates[kMaxThreads];
unsigned schedule;
unsigned long long random_state;

unsigned at_barrier, barrier_ones, released_ones;
const Site* barrier_site;
bool barriers_differ;

Fiber main_fiber;
Fiber* running = &main_fiber;
Fiber* free_fibers;
std::vector<Fiber*> fibers;

bool failed, printed;
char message[1024];
thread_local char last_error[sizeof message];  // of the OS thread that launched

// ---- randomness, fibers -------------------------------------------------------------------------

unsigned random_below(unsigned bound) {
  random_state ^= random_state << 13;  // xorshift64
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<unsigned>((random_state >> 32) * bound >> 32);
}

void arrange_order() {
  for (unsigned i = 0; i < block.count; ++i)
    order[i] = schedule == kReverse ? block.count - 1 - i : i;
  if (schedule != kRandom) return;
  for (unsigned i = block.count; i > 1; --i) {
    const unsigned j = random_below(i), other = order[j];
    order[j] = order[i - 1];
    order[i - 1] = other;
  }
}

void fiber_main();
void set_failure(const char* format, ...);

// Returns a fiber that will start new threads; the launch's own when there is no memory for one.
Fiber* take_fiber() {
  if (!free_fibers) {
    Fiber* fiber = make_fiber(static_cast<unsigned>(fibers.size()), fiber_main);
    if (!fiber) {
      set_failure(": no memory is left for the stack of another CUDA thread");
      return &main_fiber;
    }
    fibers.push_back(fiber);
    return fiber;
  }
  Fiber* fiber = free_fibers;
  free_fibers = fiber->next;
  return fiber;
}

void free_fiber(Fiber* fiber) {
  fiber->next = free_fibers;
  free_fibers = fiber;
}

void go_to(Fiber* next) {
  Fiber* self = running;
  if (next == self) return;
  running = next;
  switch_context(self->context, next->context);
}

// Picks what runs next: a released thread, a new one, or - when neither exists - the launch itself.
Fiber* choose() {
  const unsigned unstarted = block.count - block.started;
  if (ready.size() &&
      (schedule != kRandom || random_below(ready.size() + unstarted) < ready.size()))
    return threads[ready.pop()].fiber;
  return unstarted ? take_fiber() : &main_fiber;
}

void fiber_main() {
  for (;;) {
    kernel->module->run_threads(block);
    free_fiber(running);
    go_to(choose());
  }
}

// Leaves the current thread at `site` and returns when it was released and its turn came.
void park(const Site& site, Fiber* (*next)()) {
  const unsigned index = block.current;
  threads[index].fiber = running;
  threads[index].site = &site;
  ++block.waiting;
  go_to(next());
  --block.waiting;
  threads[index].site = nullptr;
  block.current = index;
  *kernel->module->thread = coordinates[index];
}

// ---- errors -------------------------------------------------------------------------------------

// Appends "3 threads at __syncthreads (x.cu line 7)" for every place where threads wait.
void describe_waiting(char* text, size_t bytes) {
  const Site* seen[kMaxThreads];
  unsigned places = 0, exited = 0;
  size_t used = 0;
  for (unsigned i = 0; i < block.count; ++i) {
    exited += block.exited[i / kWarpSize] >> (i % kWarpSize) & 1;
    const Site* site = threads[i].site;
    bool known = !site;
    for (unsigned j = 0; j < places && !known; ++j)
      known = seen[j]->line == site->line && !strcmp(seen[j]->what, site->what);
    if (known) continue;
    seen[places++] = site;
    unsigned here = 0;
    for (unsigned j = i; j < block.count; ++j)
      here += threads[j].site && threads[j].site->line == site->line &&
              !strcmp(threads[j].site->what, site->what);
    used += static_cast<size_t>(snprintf(text + used, bytes - used, "%u thread%s at %s (%s line %d), ",
                                         here, here == 1 ? "" : "s", site->what, site->file,
                                         site->line));
    if (used >= bytes) return;
  }
  snprintf(text + used, bytes - used, "%u thread%s exited", exited, exited == 1 ? "" : "s");
}

void set_message(const char* format, va_list arguments) {
  const Index3& at = *kernel->module->block;
  const int used = snprintf(message, sizeof message, "block (%u, %u, %u)", at.x, at.y, at.z);
  vsnprintf(message + used, sizeof message - static_cast<size_t>(used), format, arguments);
  failed = true;
}

void set_failure(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  set_message(format, arguments);
  va_end(arguments);
}

[[noreturn]] void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char text[sizeof message];
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  const Index3& at = *kernel->module->thread;
  set_failure(", thread (%u, %u, %u): %s", at.x, at.y, at.z, text);
  go_to(&main_fiber);
  abort();  // the launch never comes back to this fiber
}

void report_stuck() {
  char text[sizeof message];
  describe_waiting(text, sizeof text);
  set_failure(": the threads wait for each other and none can go on: %s. Every thread of a block "
              "must reach the same barrier, and every lane of a mask the same warp function", text);
}

// ---- services for device code -------------------------------------------------------------------

int barrier(int predicate, const Site& site) {
  if (!at_barrier) {
    barrier_site = &site;
    barriers_differ = false;
    barrier_ones = 0;
  }
  barriers_differ |= site.line != barrier_site->line;
  barrier_ones += predicate != 0;
  threads[block.current].fiber = running;
  if (++at_barrier == block.count && !barriers_differ) {
    at_barrier = 0;
    released_ones = barrier_ones;
    arrange_order();
    for (unsigned i = 0; i < block.count; ++i) ready.push(order[i]);
  }
  park(site, choose);
  return static_cast<int>(released_ones);
}

// Fills in the results of a complete group and releases its lanes, all but `present`.
void finish(unsigned warp, Group& group, unsigned present) {
  const Group done = group;
  group = warps[warp].groups[--warps[warp].count];
  void* requests[kWarpSize] = {};
  unsigned lanes[kWarpSize], count = 0;
  for (unsigned bits = done.arrived; bits; bits &= bits - 1) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(bits));
    requests[lane] = threads[warp * kWarpSize + lane].request;
    lanes[count++] = warp * kWarpSize + lane;
  }
  done.complete(requests, done.arrived);
  for (unsigned i = 0; i < count; ++i) {
    unsigned at = schedule == kReverse ? count - 1 - i : i;
    if (schedule == kRandom) {
      at = i + random_below(count - i);
      const unsigned other = lanes[i];
      lanes[i] = lanes[at];
      lanes[at] = other;
      at = i;
    }
    if (lanes[at] != present) ready.push(lanes[at]);
  }
}

bool is_complete(unsigned warp, const Group& group) {
  return (group.mask & ~block.exited[warp]) == group.arrived;
}

Group& find_group(Warp& warp, unsigned mask, Complete complete, const Site& site) {
  for (unsigned i = 0; i < warp.count; ++i)
    if (warp.groups[i].mask == mask) return warp.groups[i];
  warp.groups[warp.count] = {mask, 0, complete, &site};
  return warp.groups[warp.count++];
}

void collective(unsigned mask, void* request, Complete complete, const Site& site) {
  const unsigned warp = block.current / kWarpSize, lane = block.current % kWarpSize;
  if (!(mask >> lane & 1))
    fail("lane %u calls %s (%s line %d) but is not in its mask 0x%08x", lane, site.what, site.file,
         site.line, mask);
  Group& group = find_group(warps[warp], mask, complete, site);
  if (group.complete != complete)
    fail("the lanes of mask 0x%08x call different warp functions: %s (%s line %d) and %s (%s line "
         "%d)", mask, group.site->what, group.site->file, group.site->line, site.what, site.file,
         site.line);
  group.arrived |= 1u << lane;
  threads[block.current].request = request;
  threads[block.current].fiber = running;
  if (!is_complete(warp, group)) return park(site, choose);
  const bool alone = group.arrived == 1u << lane;
  finish(warp, group, alone ? block.current : kMaxThreads);
  if (!alone) park(site, choose);
}

bool thread_exited() {
  const unsigned warp = block.current / kWarpSize;
  for (unsigned i = 0; i < warps[warp].count;) {
    Group& group = warps[warp].groups[i];
    if (is_complete(warp, group))
      finish(warp, group, kMaxThreads);  // moves another group to place i
    else
      ++i;
  }
  return ready.size() == 0;
}

void yield() {
  static const Site site = {"__nanosleep", "", 0};
  ready.push(block.current);
  park(site, [] { return block.started < block.count ? take_fiber() : choose(); });
}

void register_shared(void* begin, size_t bytes) {
  if (!kernel->shared.add(begin, bytes))
    fail("more than 48 KiB of static shared memory; use dynamic shared memory");
}

void* dynamic_shared(size_t alignment) {
  if (!kernel->shared.dynamic_bytes())
    fail("the kernel uses dynamic shared memory but was launched with shared=0");
  if (alignment > 16) fail("dynamic shared memory is aligned to 16 bytes, not %zu", alignment);
  return kernel->shared.dynamic();
}

void print(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printed = true;
}

const Runtime services = {barrier, collective, yield, thread_exited, register_shared,
                          dynamic_shared, print, fail};

// ---- launches -----------------------------------------------------------------------------------

void reset_block() {
  block.started = block.finished = block.waiting = 0;
  for (unsigned warp = 0; warp * kWarpSize < block.count; ++warp) {
    const unsigned lanes = block.count - warp * kWarpSize;
    block.exited[warp] = lanes >= kWarpSize ? 0 : ~0u << lanes;
  }
}

// After a failure some fibers stand in the middle of a thread: all start afresh.
void reset_everything() {
  free_fibers = nullptr;
  for (Fiber* fiber : fibers) {
    prepare_context(fiber->context, fiber->stack, fiber->bytes, fiber_main);
    free_fiber(fiber);
  }
  memset(threads, 0, sizeof threads);
  for (Warp& warp : warps) warp.count = 0;
  ready.head = ready.tail = at_barrier = 0;
}

void run_block() {
  reset_block();
  if (schedule == kRandom) arrange_order();
  kernel->shared.poison();
  go_to(choose());
  if (!failed && block.finished != block.count) report_stuck();
}

void arrange_threads(const unsigned shape[3]) {
  block.count = shape[0] * shape[1] * shape[2];
  block.order = order;
  block.coordinates = coordinates;
  unsigned index = 0;
  for (unsigned z = 0; z < shape[2]; ++z)
    for (unsigned y = 0; y < shape[1]; ++y)
      for (unsigned x = 0; x < shape[0]; ++x) coordinates[index++] = {x, y, z};
  arrange_order();
}

unsigned long long greatest_common_divisor(unsigned long long a, unsigned long long b) {
  return b ? greatest_common_divisor(b, a % b) : a;
}

void run_grid(const Launch& launch) {
  const unsigned long long width = launch.grid[0], height = launch.grid[1];
  const unsigned long long total = width * height * launch.grid[2];
  // In random order block i * step + offset (mod total) comes i-th; a step that shares no divisor
  // with the total visits each block once, without a table of all of them.
  unsigned long long step = 1, offset = 0;
  if (schedule == kRandom) {
    offset = random_below(static_cast<unsigned>(total < ~0u ? total : ~0u));
    do step = 1 + random_below(0x7fffffff);
    while (greatest_common_divisor(step, total) != 1);
  }
  for (unsigned long long i = 0, at = offset; i < total && !failed; ++i, at = (at + step) % total) {
    const unsigned long long b = schedule == kReverse ? total - 1 - i : at;
    *kernel->module->block = {static_cast<unsigned>(b % width),
                              static_cast<unsigned>(b / width % height),
                              static_cast<unsigned>(b / width / height)};
    run_block();
  }
}

}  // namespace
}  // namespace gpunet::emulator

using namespace gpunet::emulator;

// Takes a freshly loaded kernel library; the returned handle lives as long as the process.
extern "C" __attribute__((visibility("default"))) void* gpunet_attach(Module* module) {
  return new Kernel{module, SharedMemory(module)};
}

// Runs a kernel to its end. Returns 0, or 1 after an error, which gpunet_error() then tells.
extern "C" __attribute__((visibility("default"))) int gpunet_launch(void* handle,
                                                                    const void* packed) {
  const std::lock_guard<std::mutex> lock(launching);
  Launch launch;
  memcpy(&launch, packed, sizeof launch);
  kernel = static_cast<Kernel*>(handle);
  failed = printed = false;
  schedule = launch.schedule;
  random_state = launch.seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull;
  if (!random_state) random_state = 1;  // the one state xorshift cannot leave
  kernel->module->bind(&services, static_cast<const char*>(packed) + sizeof launch);
  *kernel->module->grid = {launch.grid[0], launch.grid[1], launch.grid[2]};
  *kernel->module->block_shape = {launch.block[0], launch.block[1], launch.block[2]};
  kernel->shared.set_dynamic(launch.dynamic_shared);
  arrange_threads(launch.block);
  run_grid(launch);
  if (printed) fflush(stdout);
  if (!failed) return 0;
  reset_everything();
  memcpy(last_error, message, sizeof message);
  return 1;
}

// Tells why the last launch of the calling OS thread failed.
extern "C" __attribute__((visibility("default"))) const char* gpunet_error() { return last_error; }
