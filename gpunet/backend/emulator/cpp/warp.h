// Barriers, and the functions that the lanes of a warp call together.
//
// Every one of them takes the line of its call as a default argument, so that errors can name it.
#pragma once

#include <string.h>

#include "interface.h"
#include "keywords.h"

#define GPUNET_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(GPUNET_SITE) {
  gpunet::emulator::runtime->barrier(0, {"__syncthreads", file, line});
}
inline int __syncthreads_count(int predicate, GPUNET_SITE) {
  return gpunet::emulator::runtime->barrier(predicate, {"__syncthreads_count", file, line});
}
inline int __syncthreads_and(int predicate, GPUNET_SITE) {
  const gpunet::emulator::Site site = {"__syncthreads_and", file, line};
  const int count = gpunet::emulator::runtime->barrier(predicate, site);
  return count == static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
}
inline int __syncthreads_or(int predicate, GPUNET_SITE) {
  return gpunet::emulator::runtime->barrier(predicate, {"__syncthreads_or", file, line}) != 0;
}

namespace gpunet::emulator {

// Runs `complete` once, when all lanes of `mask` have arrived, with what each of them handed in.
// This is the way to write a twin of a warp-wide instruction, such as mma.sync, in plain C++:
//
//   struct Request { Fragment a, b, c, *d; };
//   warp_call(0xffffffff, request, complete, {"mma_m16n8k16", file, line});
//   void complete(Request* const requests[32], unsigned lanes);   // writes to requests[lane]->d
template <typename Request, void (*complete)(Request* const[kWarpSize], unsigned)>
inline void warp_call(unsigned mask, Request& request, const Site& site) {
  runtime->collective(
      mask, &request,
      [](void* const requests[kWarpSize], unsigned lanes) {
        complete(reinterpret_cast<Request* const*>(requests), lanes);
      },
      site);
}

inline unsigned lane_index() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % kWarpSize;
}

template <typename Function>
inline void for_each_lane(unsigned lanes, Function function) {
  for (; lanes; lanes &= lanes - 1) function(static_cast<unsigned>(__builtin_ctz(lanes)));
}

// ---- shuffles -----------------------------------------------------------------------------------

struct Shuffle {
  unsigned long long value, result;
  unsigned source;  // the lane to read
  const Site* site;
};

inline void complete_shuffle(Shuffle* const requests[kWarpSize], unsigned lanes) {
  for_each_lane(lanes, [=](unsigned lane) {
    Shuffle& request = *requests[lane];
    if (!(lanes >> request.source & 1))
      runtime->fail("lane %u reads lane %u by %s (%s line %d), but that lane is not in the mask or "
                    "has exited", lane, request.source, request.site->what, request.site->file,
                    request.site->line);
    request.result = requests[request.source]->value;
  });
}

template <typename T>
inline T shuffle(unsigned mask, T value, unsigned source, const Site& site) {
  static_assert(sizeof(T) <= 8, "shuffles move values of up to 8 bytes");
  Shuffle request = {0, 0, source, &site};
  memcpy(&request.value, &value, sizeof value);
  warp_call<Shuffle, complete_shuffle>(mask, request, site);
  memcpy(&value, &request.result, sizeof value);
  return value;
}

// The first lane of the segment of `width` lanes that `lane` is in.
inline unsigned segment(unsigned lane, int width) {
  if (width < 1 || width > 32 || (width & (width - 1)))
    runtime->fail("a shuffle's width is 1, 2, 4, 8, 16 or 32, not %d", width);
  return lane & ~(static_cast<unsigned>(width) - 1);
}

// ---- votes --------------------------------------------------------------------------------------

struct Vote {
  bool predicate;
  unsigned ballot, lanes;
};

inline void complete_vote(Vote* const requests[kWarpSize], unsigned lanes) {
  unsigned ballot = 0;
  for_each_lane(lanes,
                [&](unsigned lane) { ballot |= unsigned{requests[lane]->predicate} << lane; });
  for_each_lane(lanes, [=](unsigned lane) {
    requests[lane]->ballot = ballot;
    requests[lane]->lanes = lanes;
  });
}

inline Vote vote(unsigned mask, int predicate, const Site& site) {
  Vote request = {predicate != 0, 0, 0};
  warp_call<Vote, complete_vote>(mask, request, site);
  return request;
}

// ---- lanes with equal values --------------------------------------------------------------------

struct Match {
  unsigned long long value;
  unsigned equal;  // lanes
  bool all;
};

inline void complete_match(Match* const requests[kWarpSize], unsigned lanes) {
  for_each_lane(lanes, [=](unsigned lane) {
    Match& mine = *requests[lane];
    mine.equal = 0;
    for_each_lane(lanes, [&](unsigned other) {
      mine.equal |= unsigned{requests[other]->value == mine.value} << other;
    });
    mine.all = mine.equal == lanes;
  });
}

template <typename T>
inline Match match(unsigned mask, T value, const Site& site) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "values of 4 or 8 bytes are matched");
  Match request = {0, 0, false};
  memcpy(&request.value, &value, sizeof value);
  warp_call<Match, complete_match>(mask, request, site);
  return request;
}

// ---- reductions over a warp (sm_80) -------------------------------------------------------------

template <typename T, typename Operation>
struct Reduction {
  T value;
};

template <typename T, typename Operation>
inline void complete_reduction(Reduction<T, Operation>* const requests[kWarpSize], unsigned lanes) {
  T total = requests[__builtin_ctz(lanes)]->value;
  for_each_lane(lanes & (lanes - 1),
                [&](unsigned lane) { total = Operation()(total, requests[lane]->value); });
  for_each_lane(lanes, [=](unsigned lane) { requests[lane]->value = total; });
}

template <typename Operation, typename T>
inline T reduce(unsigned mask, T value, const Site& site) {
  using Request = Reduction<T, Operation>;
  Request request = {value};
  warp_call<Request, complete_reduction<T, Operation>>(mask, request, site);
  return request.value;
}

}  // namespace gpunet::emulator

inline void __syncwarp(unsigned mask = 0xffffffff, GPUNET_SITE) {
  gpunet::emulator::runtime->collective(mask, nullptr, nullptr, {"__syncwarp", file, line});
}

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, GPUNET_SITE) {
  using namespace gpunet::emulator;
  const unsigned first = segment(lane_index(), width);
  return shuffle(mask, value, first + (static_cast<unsigned>(source) & (width - 1)),
                 {"__shfl_sync", file, line});
}

template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, GPUNET_SITE) {
  using namespace gpunet::emulator;
  const unsigned lane = lane_index(), place = lane - segment(lane, width);
  return shuffle(mask, value, place < delta ? lane : lane - delta, {"__shfl_up_sync", file, line});
}

template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, GPUNET_SITE) {
  using namespace gpunet::emulator;
  const unsigned lane = lane_index(), place = lane - segment(lane, width);
  const bool inside = delta < static_cast<unsigned>(width) - place;
  return shuffle(mask, value, inside ? lane + delta : lane, {"__shfl_down_sync", file, line});
}

template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, GPUNET_SITE) {
  using namespace gpunet::emulator;
  const unsigned lane = lane_index(), source = lane ^ static_cast<unsigned>(bits);
  // A later segment cannot be read, an earlier one can (PTX ISA, shfl.sync.bfly).
  const bool inside = source < segment(lane, width) + static_cast<unsigned>(width);
  return shuffle(mask, value, inside ? source : lane, {"__shfl_xor_sync", file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, GPUNET_SITE) {
  return gpunet::emulator::vote(mask, predicate, {"__ballot_sync", file, line}).ballot;
}
inline int __any_sync(unsigned mask, int predicate, GPUNET_SITE) {
  return gpunet::emulator::vote(mask, predicate, {"__any_sync", file, line}).ballot != 0;
}
inline int __all_sync(unsigned mask, int predicate, GPUNET_SITE) {
  const auto result = gpunet::emulator::vote(mask, predicate, {"__all_sync", file, line});
  return result.ballot == result.lanes;
}

template <typename T>
inline unsigned __match_any_sync(unsigned mask, T value, GPUNET_SITE) {
  return gpunet::emulator::match(mask, value, {"__match_any_sync", file, line}).equal;
}
template <typename T>
inline unsigned __match_all_sync(unsigned mask, T value, int* all, GPUNET_SITE) {
  const auto result = gpunet::emulator::match(mask, value, {"__match_all_sync", file, line});
  *all = result.all;
  return result.all ? result.equal : 0;
}

// Which lanes run together is up to the hardware: the calling one is all a kernel may count on.
inline unsigned __activemask() { return 1u << gpunet::emulator::lane_index(); }

#define GPUNET_REDUCE(name, T, operation)                                                        \
  inline T name(unsigned mask, T value, GPUNET_SITE) {                                            \
    struct Operation {                                                                            \
      T operator()(T a, T b) const { return operation; }                                          \
    };                                                                                            \
    return gpunet::emulator::reduce<Operation>(mask, value, {#name, file, line});                 \
  }
GPUNET_REDUCE(__reduce_add_sync, unsigned, a + b)
GPUNET_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
GPUNET_REDUCE(__reduce_max_sync, unsigned, a < b ? b : a)
GPUNET_REDUCE(__reduce_and_sync, unsigned, a & b)
GPUNET_REDUCE(__reduce_or_sync, unsigned, a | b)
GPUNET_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
GPUNET_REDUCE(__reduce_add_sync, int, a + b)
GPUNET_REDUCE(__reduce_min_sync, int, a < b ? a : b)
GPUNET_REDUCE(__reduce_max_sync, int, a < b ? b : a)
#undef GPUNET_REDUCE
#undef GPUNET_SITE
