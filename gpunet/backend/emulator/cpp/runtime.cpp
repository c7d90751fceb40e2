// The emulator's runtime: what device code asks for, and launches.
//
// One launch runs at a time in a process (they take a lock); its state is in scheduler.h.
#include "report.h"
#include "scheduler.h"

namespace gpunet::emulator {
namespace {

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

void* dynamic_shared() {
  if (!kernel->shared.dynamic_bytes())
    fail("the kernel uses dynamic shared memory but was launched with shared=0");
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
