// The state of the one launch in flight, and who runs next on which fiber.
//
// Threads are started one after another on the same fiber. Only a thread that has to wait - at a
// barrier or a warp collective - keeps its fiber; the next thread then starts on another one from
// the pool. A kernel that never waits therefore costs a loop and nothing else.
#pragma once

#include <stdio.h>

#include <mutex>
#include <vector>

#include "fiber.h"
#include "interface.h"
#include "sanitizers.h"
#include "shared_memory.h"

namespace gpunet::emulator {
namespace {

struct Thread {
  Fiber* fiber;      // where to go on, while it waits
  const Site* site;  // what it waits for; null while it runs
  void* request;     // for a warp collective
  bool fenced[2];    // whether it has passed a fence for its block, for the device
};

// Lanes of a warp that wait for one another.
struct Group {
  unsigned mask, arrived;
  Complete complete;
  const Site* site;
  void* point;  // in time, for sanitizers
};

struct Warp {
  unsigned count;
  Group groups[kWarpSize];
};

// An asynchronous copy that a thread has issued and not yet waited for.
struct PendingCopy {
  void* to;
  const void* from;
  Copy perform;
  unsigned group;  // of the thread, in the order of its commits
  Site site;
};

// Those of one thread, and how many groups it has closed.
struct Copies {
  std::vector<PendingCopy> pending;
  unsigned groups;
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
std::vector<Kernel*> kernels;  // all that were ever attached
Kernel* kernel;                // the one in flight
unsigned schedule;  // Schedule
unsigned long long random_state;

// The block in flight.
Block block;
unsigned order[kMaxThreads];
Index3 coordinates[kMaxThreads];
Thread threads[kMaxThreads];
Warp warps[kMaxWarps];
Copies copies[kMaxThreads];
Ready ready;

// Its barrier: how many wait there, how many of them with a true predicate, where the first does.
unsigned at_barrier, barrier_ones, released_ones;
const Site* barrier_site;
void* barrier_point;
bool barriers_differ;

// How long threads have only slept, or tried an atomic again: see `yield`.
unsigned idle;
constexpr unsigned kMaxIdle = 20'000'000;

// The launch itself, on the stack of its caller, is a fiber too.
Fiber main_fiber;
Fiber* running = &main_fiber;
Fiber* free_fibers;
std::vector<Fiber*> fibers;

bool failed, printed;
char message[1024];
thread_local char last_error[sizeof message];  // of the OS thread that launched

// A number from 0 to bound - 1, by xorshift64.
unsigned random_below(unsigned bound) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<unsigned>((random_state >> 32) * bound >> 32);
}

// Fills `order` by the schedule; in random order, differently each time.
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

void fiber_main();  // what every fiber runs
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
  if (sanitizers::kOneThreadAFiber) {
    char name[128];
    const Index3 &b = *kernel->module->block, &t = coordinates[order[block.started]];
    snprintf(name, sizeof name, "block (%u, %u, %u), thread (%u, %u, %u)", b.x, b.y, b.z, t.x, t.y,
             t.z);
    sanitizers::name(fiber->shadow, name);
  }
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
  sanitizers::switch_to(next->shadow);
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
    if (!sanitizers::kOneThreadAFiber) free_fiber(running);
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

}  // namespace
}  // namespace gpunet::emulator
