// How a launch fails: the message, and the way back to the launch.
#pragma once

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

namespace gpunet::emulator {
namespace {

bool same_place(const Site& a, const Site& b) {
  return a.line == b.line && !strcmp(a.what, b.what) && !strcmp(a.file, b.file);
}

// Writes "3 threads at __syncthreads (x.cu line 7), 2 threads exited".
void describe_threads(char* text, size_t bytes) {
  const char* end = text + bytes;
  unsigned exited = 0;
  for (unsigned i = 0; i < block.count; ++i) {
    exited += block.exited[i / kWarpSize] >> (i % kWarpSize) & 1;
    const Site* site = threads[i].site;
    if (!site) continue;
    unsigned count = 0, first = i;
    for (unsigned j = block.count; j-- > 0;)
      if (threads[j].site && same_place(*threads[j].site, *site)) ++count, first = j;
    if (first < i) continue;  // this place was described there
    text += snprintf(text, static_cast<size_t>(end - text), "%u thread%s at %s (%s line %d), ",
                     count, count == 1 ? "" : "s", site->what, site->file, site->line);
    if (text >= end) return;
  }
  snprintf(text, static_cast<size_t>(end - text), "%u thread%s exited", exited,
           exited == 1 ? "" : "s");
}

// Notes what went wrong in the current block; the launch ends when it gets control.
void set_failure(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const Index3& at = *kernel->module->block;
  const int used = snprintf(message, sizeof message, "block (%u, %u, %u)", at.x, at.y, at.z);
  vsnprintf(message + used, sizeof message - static_cast<size_t>(used), format, arguments);
  va_end(arguments);
  failed = true;
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
  char text[sizeof message - 256];
  describe_threads(text, sizeof text);
  set_failure(": the threads wait for each other and none can go on: %s. Every thread of a block "
              "must reach the same barrier, and every lane of a mask the same warp function", text);
}

}  // namespace
}  // namespace gpunet::emulator
