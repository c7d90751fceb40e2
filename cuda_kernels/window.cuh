// Where the windows of convolution and pooling lie. Arrays are (batch, depth, height, width,
// channels); with fewer spatial axes those in front have length 1, and one tap.
#pragma once

#include "common.cuh"

// One spatial axis: `size` inputs, and `count` places of a window of `window` taps.
struct Axis {
  int size, count, window, stride, before, dilation;

  // The input that a tap reads at a place; outside [0, size) it is padding.
  __device__ __forceinline__ int input(int place, int tap) const {
    return place * stride - before + tap * dilation;
  }
  __device__ __forceinline__ bool inside(int input) const { return 0 <= input && input < size; }

  // The first tap that reads an input at a place, and the one after the last. Loops from one to
  // the other need no test inside, which lets the compiler have several loads under way.
  __device__ __forceinline__ int first_tap(int place) const {
    const int first = input(place, 0);
    return first < 0 ? (dilation - 1 - first) / dilation : 0;
  }
  __device__ __forceinline__ int end_tap(int place) const {
    if (input(place, window - 1) < size) return window;
    const int left = size - input(place, 0);
    return left > 0 ? (left + dilation - 1) / dilation : 0;
  }
  // The first and the last place whose window reaches over an input.
  __device__ __forceinline__ int first_place(int input) const {
    const int past = input + before - (window - 1) * dilation - 1;
    return past < 0 ? 0 : past / stride + 1;
  }
  __device__ __forceinline__ int last_place(int input) const {
    const int offset = input + before;
    if (offset < 0) return -1;
    return offset / stride < count ? offset / stride : count - 1;
  }
  // The first place where a tap reads an input, and the one after the last.
  __device__ __forceinline__ int first_place_of(int tap) const {
    const int first = input(0, tap);
    return first < 0 ? (stride - 1 - first) / stride : 0;
  }
  __device__ __forceinline__ int end_place_of(int tap) const {
    const int left = size - input(0, tap), places = left > 0 ? (left + stride - 1) / stride : 0;
    return places < count ? places : count;
  }
  // The tap that reads an input at a place that reaches over it; with dilation, maybe none: -1.
  __device__ __forceinline__ int tap(int input, int place) const {
    const int offset = input + before - place * stride;
    if (dilation == 1) return offset;
    return offset % dilation ? -1 : offset / dilation;
  }
  // How many inputs, not padding, the window at a place holds, without dilation.
  __device__ __forceinline__ int inputs_at(int place) const {
    const int first = input(place, 0), last = first + window;
    return (last < size ? last : size) - (first > 0 ? first : 0);
  }
};

// The parameters of a kernel that describe its windows, and the three axes made of them.
#define WINDOW_PARAMETERS \
  int depth_size, int depth_count, int depth_window, int depth_stride, int depth_before, \
  int depth_dilation, int height_size, int height_count, int height_window, int height_stride, \
  int height_before, int height_dilation, int width_size, int width_count, int width_window, \
  int width_stride, int width_before, int width_dilation
#define MAKE_AXIS(a) \
  const Axis a = {a##_size, a##_count, a##_window, a##_stride, a##_before, a##_dilation}
#define MAKE_WINDOW \
  MAKE_AXIS(depth); \
  MAKE_AXIS(height); \
  MAKE_AXIS(width)

// A row of an array: all of its width, at one sample, depth and height. A block works on one row,
// so that a thread divides once, by the channels, and what is left are sums.
struct Row {
  long long sample;
  int depth, height;
};
__device__ __forceinline__ Row row_at(long long row, int depths, int heights) {
  const long long slice = row / heights;
  return {slice / depths, static_cast<int>(slice % depths), static_cast<int>(row % heights)};
}

// Calls f(tap, site) for each tap that reads an input, not padding, at a place; `site` counts the
// inputs of all samples. The order is that of the taps in memory.
template <typename F>
__device__ __forceinline__ void for_taps(const Axis& depth, const Axis& height, const Axis& width,
                                         Row place, int w, F f) {
  const int end_d = depth.end_tap(place.depth), end_h = height.end_tap(place.height);
  const int first_w = width.first_tap(w), end_w = width.end_tap(w);
  for (int kd = depth.first_tap(place.depth); kd < end_d; kd++)
    for (int kh = height.first_tap(place.height); kh < end_h; kh++) {
      const int id = depth.input(place.depth, kd), ih = height.input(place.height, kh);
      const long long row = (place.sample * depth.size + id) * height.size + ih;
#pragma unroll 3
      for (int kw = first_w; kw < end_w; kw++)
        f((kd * height.window + kh) * width.window + kw, row * width.size + width.input(w, kw));
    }
}

// Calls f(tap, site, pd, ph, pw) for each place, by depth, height and width, with a tap that reads
// an input; `site` counts the places of all samples. The order is that of the places.
template <typename F>
__device__ __forceinline__ void for_readers(const Axis& depth, const Axis& height,
                                            const Axis& width, Row input, int w, F f) {
  const int last_d = depth.last_place(input.depth), last_h = height.last_place(input.height);
  const int first_w = width.first_place(w), last_w = width.last_place(w);
  for (int pd = depth.first_place(input.depth); pd <= last_d; pd++)
    for (int ph = height.first_place(input.height); ph <= last_h; ph++) {
      const int kd = depth.tap(input.depth, pd), kh = height.tap(input.height, ph);
      if (kd < 0 || kh < 0) continue;
      const long long row = (input.sample * depth.count + pd) * height.count + ph;
#pragma unroll 2
      for (int pw = first_w; pw <= last_w; pw++) {
        const int kw = width.tap(w, pw);
        if (kw < 0) continue;
        f((kd * height.window + kh) * width.window + kw, row * width.count + pw, pd, ph, pw);
      }
    }
}
