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
    barrier_point = sanitizers::new_point();
  }
  void* point = barrier_point;
  sanitizers::release(point);
  barriers_differ |= site.line != barrier_site->line;
  barrier_ones += predicate != 0;
  threads[block.current].fiber = running;
  if (++at_barrier == block.count && !barriers_differ) {
    at_barrier = 0;
    idle = 0;
    released_ones = barrier_ones;
    arrange_order();
    for (unsigned i = 0; i < block.count; ++i) ready.push(order[i]);
  }
  park(site, choose);
  sanitizers::acquire(point);
  return static_cast<int>(released_ones);
}

// Fills in the results of a complete group and releases its lanes, all but `present`.
void finish(unsigned warp, Group& group, unsigned present) {
  const Group done = group;
  idle = 0;
  group = warps[warp].groups[--warps[warp].count];
  void* requests[kWarpSize] = {};
  unsigned lanes[kWarpSize], count = 0;
  for (unsigned bits = done.arrived; bits; bits &= bits - 1) {
    const unsigned lane = static_cast<unsigned>(__builtin_ctz(bits));
    requests[lane] = threads[warp * kWarpSize + lane].request;
    lanes[count++] = warp * kWarpSize + lane;
  }
  if (done.complete) {
    const sanitizers::Ignore ignore;  // it reads and writes what lies on the stacks of all lanes
    done.complete(requests, done.arrived);
  }
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
  void* point = complete ? nullptr : sanitizers::new_point();
  warp.groups[warp.count] = {mask, 0, complete, &site, point};
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
  void* point = group.point;
  if (point) sanitizers::release(point);
  group.arrived |= 1u << lane;
  threads[block.current].request = request;
  threads[block.current].fiber = running;
  const bool complete_now = is_complete(warp, group), alone = group.arrived == 1u << lane;
  if (complete_now) finish(warp, group, alone ? block.current : kMaxThreads);
  if (!complete_now || !alone) park(site, choose);
  if (point) sanitizers::acquire(point);
}

void check_shared(const void* begin, size_t bytes, const Site& site) {
  if (!kernel->shared.contains(begin, bytes))
    fail("%s (%s line %d): %p is not in shared memory", site.what, site.file, site.line, begin);
  if (reinterpret_cast<size_t>(begin) % bytes)
    fail("%s (%s line %d): misaligned address %p, not a multiple of %d", site.what, site.file,
         site.line, begin, static_cast<int>(bytes));
}

void copy_async(void* to, const void* from, Copy perform, const Site& site) {
  const sanitizers::Ignore ignore;
  Copies& mine = copies[block.current];
  mine.pending.push_back({to, from, perform, mine.groups, site});
  ++block.copying;
}

void commit_copies() { ++copies[block.current].groups; }

void wait_for_copies(unsigned pending) {
  Copies& mine = copies[block.current];
  size_t done = 0;  // copies are kept in the order of their groups
  while (done < mine.pending.size() && mine.groups - mine.pending[done].group > pending) {
    const PendingCopy& copy = mine.pending[done++];
    copy.perform(copy.to, copy.from);
  }
  const sanitizers::Ignore ignore;
  mine.pending.erase(mine.pending.begin(), mine.pending.begin() + static_cast<ptrdiff_t>(done));
  block.copying -= static_cast<unsigned>(done);
}

// Atomics order memory only together with fences: what came before a fence is seen by whoever finds
// what an atomic after it has left. A fence for the block will do where only the block can look.
void atomic_done(void* address) {
  const bool* fenced = threads[block.current].fenced;
  sanitizers::acquire(address);
  if (fenced[kernel->shared.contains(address, 1) ? 0 : 1]) sanitizers::release(address);
}

void fence(bool device) {
  bool* fenced = threads[block.current].fenced;
  fenced[0] = true;
  fenced[1] |= device;
}

bool thread_exited() {
  idle = 0;
  if (block.copying && !copies[block.current].pending.empty()) {
    const Site& site = copies[block.current].pending[0].site;
    fail("%s (%s line %d): the thread ends before it has waited for this copy by cp_async_wait",
         site.what, site.file, site.line);
  }
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

// Lets others go first. When all that happens is that threads sleep or try again, they hang.
void yield(unsigned weight, const Site& site) {
  if ((idle += weight) > kMaxIdle)
    fail("%s (%s line %d): the threads of this block only wait, and nothing happens that they wait "
         "for. (Blocks run one after another here: none can wait for a later one)", site.what,
         site.file, site.line);
  ready.push(block.current);
  park(site, [] { return block.started < block.count ? take_fiber() : choose(); });
}

// Whether the block has more shared memory than any GPU gives it, as far as is known by now.
bool too_much_shared(char (&text)[sizeof message]) {
  const size_t fixed = kernel->shared.static_bytes(), dynamic = kernel->shared.dynamic_bytes();
  if (fixed + dynamic <= kMaxShared) return false;
  snprintf(text, sizeof text, "%zu bytes of static and %zu of dynamic shared memory: a block has "
           "at most 227 KiB on sm_90 and 163 KiB on sm_80", fixed, dynamic);
  return true;
}

void* register_shared(void* begin, size_t bytes) {
  const sanitizers::Ignore ignore;
  void* memory = kernel->shared.add(begin, bytes);
  if (kernel->shared.static_bytes() > kMaxStaticShared)
    fail("more than 48 KiB of static shared memory; use dynamic shared memory");
  char text[sizeof message];
  if (too_much_shared(text)) fail("%s", text);
  return memory;
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
                          dynamic_shared, check_shared, copy_async, commit_copies,
                          wait_for_copies, atomic_done, fence, print, fail};

// ---- launches -----------------------------------------------------------------------------------

void reset_block() {
  idle = 0;
  block.started = block.finished = block.waiting = block.copying = 0;
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
  for (Copies& mine : copies) mine.pending.clear();
  ready.head = ready.tail = at_barrier = 0;
}

void start_shared_memory() {
  const sanitizers::Ignore ignore;
  kernel->shared.start_block();
}

void run_block() {
  reset_block();
  if (schedule == kRandom) arrange_order();
  start_shared_memory();
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

void (*start_block)() = run_block;  // sanitize.cpp puts something around it

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
    start_block();
  }
}

}  // namespace
}  // namespace gpunet::emulator

using namespace gpunet::emulator;

// Takes a kernel of a loaded library; the returned handle lives as long as the process.
extern "C" __attribute__((visibility("default"))) void* gpunet_attach(Module* module) {
  const std::lock_guard<std::mutex> lock(launching);
  for (Kernel* known : kernels)
    if (known->module == module) return known;
  kernels.push_back(new Kernel{module, SharedMemory(module)});
  return kernels.back();
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
  if (too_much_shared(last_error)) return 1;
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
