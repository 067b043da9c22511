// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The fused update, written once over the rules (math/optimizers-inl.h) and the element types
// (vector-inl.h).
//
// One core is bound by the bytes it reads, so the loop reads everything once, in blocks of 32
// elements (one cache line of a 16-bit type). The hardware prefetchers lose track when W + 3
// streams run side by side, so each stream is prefetched twice: far ahead into the second-level
// cache, and just ahead into the first, which cannot hold W + 3 streams for long when they share
// its sets.

#if defined(PENSTOCK_KERNELS_CPU_UPDATE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_CPU_UPDATE_INL_H
#undef PENSTOCK_KERNELS_CPU_UPDATE_INL_H
#else
#define PENSTOCK_KERNELS_CPU_UPDATE_INL_H
#endif

#include <hwy/cache_control.h>

#include <cstring>
#include <type_traits>

#include "kernels/cpu/check_args.h"
#include "kernels/cpu/codec_vector-inl.h"
#include "kernels/cpu/state-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/math/optimizers-inl.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::size_t kBlock = 32;
inline constexpr std::size_t kVectors = kBlock / kLanes;
inline constexpr std::size_t kLineBytes = 64;  // of a cache line
// Bytes, not elements, so that streams of any type stay within a page or two. 2 KiB and more cost a
// fifth where few streams are stored to: 1024 floats ahead are the same bits of an address below a
// page's size as the block being stored.
inline constexpr std::size_t kFarBytes = 1920;  // 1536 … 1920 measure alike
inline constexpr std::size_t kNearBytes = 384;  // 256 … 384 measure alike
static_assert(kBlock % (2 * kLanes) == 0);      // for store_two()

// More workers than kGroup are summed a group at a time, over kChunk elements whose sum waits in
// the first-level cache: so many streams at once would evict one another.
inline constexpr std::uint32_t kGroup = 8;
inline constexpr std::size_t kChunk = 1024;
static_assert(kChunk % kBlock == 0);

// One call's streams, without the gradients that are absent.
struct Streams {
  const void* gradients[kMaxWorkers];
  std::uint32_t workers;
  float* parameters;
  void* state[kMaxRulePlanes];
  float* seen;  // nullptr: no compensation
  void* wire;
  DType wire_dtype;
  bool stream_wire;
  float clip, l1, compensation;
  std::uint32_t rounding_key;
  std::uint32_t first_element;  // its lower half
};

// May run past the end of the stream: a prefetch never faults.
template <class T>
HWY_INLINE void prefetch_block(const T* stream) {
  for (std::size_t i = 0; i < kBlock; i += kLineBytes / sizeof(T)) {
    __builtin_prefetch(stream + kFarBytes / sizeof(T) + i, 0, 2);
    __builtin_prefetch(stream + kNearBytes / sizeof(T) + i, 0, 3);
  }
}

template <class Gradient, class Element>
HWY_INLINE void add_gradient(const Element* gradient, Vector (&sum)[kVectors]) {
  prefetch_block(gradient);
  for (std::size_t i = 0; i < kVectors; ++i)
    sum[i] = add(sum[i], Gradient::load(gradient + i * kLanes));
}

// Gradients that are summed side by side, and what those of lower ranks summed to.
struct Group {
  const void* const* gradients;
  std::uint32_t workers;
  const float* before;  // nullptr: nothing before; else kChunk sums, the first for `origin`
  std::size_t origin;
};

// The sum of the block at `begin`, left to right; four at a time only to spare instructions.
template <class Gradient>
HWY_INLINE void sum_block(const Group& group, std::size_t begin, Vector (&sum)[kVectors]) {
  using Element = typename Gradient::Element;
  const auto block = [&](std::uint32_t w) HWY_ATTR {
    return static_cast<const Element*>(group.gradients[w]) + begin;
  };
  std::uint32_t w = 0;
  if (group.before != nullptr) {
    const float* before = group.before + (begin - group.origin);
    for (std::size_t i = 0; i < kVectors; ++i) sum[i] = Float32::load(before + i * kLanes);
  } else if (group.workers == 0) {
    for (Vector& zero : sum) zero = hn::Zero(Floats());
  } else {
    const Element* first = block(w++);
    prefetch_block(first);
    for (std::size_t i = 0; i < kVectors; ++i) sum[i] = Gradient::load(first + i * kLanes);
  }
  for (; w + 4 <= group.workers; w += 4)
    for (std::uint32_t j = 0; j < 4; ++j) add_gradient<Gradient>(block(w + j), sum);
  for (; w < group.workers; ++w) add_gradient<Gradient>(block(w), sum);
}

// Replaces the [length] sums of a chunk by those with the group's gradients added.
template <class Gradient>
void sum_chunk(const Group& group, std::size_t length, float* sums) {
  for (std::size_t i = 0; i < length; i += kBlock) {
    Vector sum[kVectors];
    sum_block<Gradient>(group, group.origin + i, sum);
    for (std::size_t v = 0; v < kVectors; ++v) Float32::store(sum[v], sums + i + v * kLanes);
  }
}

HWY_INLINE void store_wire(const Streams& streams, std::size_t begin,
                           const Vector (&values)[kVectors]) {
  with_element(streams.wire_dtype, [&](auto type) HWY_ATTR {
    using Type = decltype(type);
    auto* wire = static_cast<typename Type::Element*>(streams.wire) + begin;
    for (std::size_t i = 0; i < kVectors; i += 2) {
      if (streams.stream_wire)
        Type::stream_two(values[i], values[i + 1], wire + i * kLanes);
      else
        Type::store_two(values[i], values[i + 1], wire + i * kLanes);
    }
  });
}

// Runs the rule on [begin, end), whole blocks, with the last group's sums. False when one of them
// is not finite.
template <class Gradient, class State, class Rule>
bool update_blocks(const Rule& rule, const Streams& streams, const Group& group, Vector scale,
                   std::size_t begin, std::size_t end) {
  using Element = typename State::Element;
  const Rule local = rule;  // copies, so that no store can be thought to change them
  const Group last = group;
  const Vector clip = splat<Vector>(streams.clip);
  const bool clips = streams.clip != kNoClip;
  const Vector l1 = splat<Vector>(streams.l1);
  const bool penalizes = streams.l1 != 0;
  const Vector compensation = splat<Vector>(streams.compensation);
  const State kept(streams.rounding_key);
  const std::uint32_t first = streams.first_element;
  const Vector zero = hn::Zero(Floats());
  Vector odd = zero;  // stays 0 until 0·∞ or 0·NaN makes it a NaN
  float* const parameters = streams.parameters;
  float* const seen = streams.seen;
  Element* planes[Rule::kPlanes + 1];
  for (std::uint32_t s = 0; s < Rule::kPlanes; ++s)
    planes[s] = static_cast<Element*>(streams.state[s]);
  for (; begin < end; begin += kBlock) {
    Vector sum[kVectors];
    sum_block<Gradient>(last, begin, sum);
    prefetch_block(parameters + begin);
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) prefetch_block(planes[s] + begin);
    if (seen != nullptr) prefetch_block(seen + begin);
    for (std::size_t i = 0; i < kVectors; ++i) {
      const std::size_t at = begin + i * kLanes;
      Vector p = Float32::load(parameters + at);
      Vector state[Rule::kPlanes + 1];
      for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) state[s] = State::load(planes[s] + at);
      Vector g = mul(sum[i], scale);
      odd = fma(g, zero, odd);
      if (clips) g = clipped(g, clip);
      if (seen != nullptr) {
        g = compensated(g, p, Float32::load(seen + at), compensation);
        Float32::store(canonical(p), seen + at);
      }
      if (penalizes) g = penalized(g, p, l1);
      local(p, g, state);
      kept.template store<Rule::kPlanes>(state, planes, at, first + static_cast<std::uint32_t>(at));
      sum[i] = canonical(p);
      Float32::store(sum[i], parameters + at);
    }
    if (streams.wire != nullptr) store_wire(streams, begin, sum);
  }
  return hn::AllTrue(Floats(), hn::Eq(odd, zero));
}

// The first `count` elements, a multiple of kBlock.
template <class Gradient, class State, class Rule>
bool update_whole(const Rule& rule, const Streams& streams, Vector scale, std::size_t count) {
  if (streams.workers <= kGroup)
    return update_blocks<Gradient, State>(
        rule, streams, {streams.gradients, streams.workers, nullptr, 0}, scale, 0, count);
  alignas(kLineBytes) float sums[kChunk];
  bool finite = true;
  for (std::size_t begin = 0; begin < count; begin += kChunk) {
    const std::size_t length = HWY_MIN(kChunk, count - begin);
    Group group = {streams.gradients, kGroup, nullptr, begin};
    std::uint32_t left = streams.workers;
    for (; left > kGroup; left -= kGroup) {
      sum_chunk<Gradient>(group, length, sums);
      group.gradients += kGroup;
      group.before = sums;
    }
    group.workers = left;
    finite &= update_blocks<Gradient, State>(rule, streams, group, scale, begin, begin + length);
  }
  return finite;
}

// The last `count` < kBlock elements: the same block on padded copies.
template <class Gradient, class State, class Rule>
HWY_NOINLINE bool update_tail(const Rule& rule, const Streams& streams, Vector scale,
                              std::size_t begin, std::size_t count) {
  using Element = typename Gradient::Element;
  alignas(kLineBytes) Element gradients[kMaxWorkers][kBlock];
  alignas(kLineBytes) float parameters[kBlock] = {};
  using StateElement = typename State::Element;
  alignas(kLineBytes) StateElement state[Rule::kPlanes + 1][kBlock] = {};
  alignas(kLineBytes) float seen[kBlock] = {};
  alignas(kLineBytes) float wire[kBlock];
  Streams copy = streams;
  copy.first_element += static_cast<std::uint32_t>(begin);
  for (std::uint32_t w = 0; w < streams.workers; ++w) {
    std::memset(gradients[w], 0, sizeof(gradients[w]));
    std::memcpy(gradients[w], static_cast<const Element*>(streams.gradients[w]) + begin,
                count * sizeof(Element));
    copy.gradients[w] = gradients[w];
  }
  std::memcpy(parameters, streams.parameters + begin, count * sizeof(float));
  copy.parameters = parameters;
  for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) {
    std::memcpy(state[s], static_cast<StateElement*>(streams.state[s]) + begin,
                count * sizeof(StateElement));
    copy.state[s] = state[s];
  }
  if (streams.seen != nullptr) {
    std::memcpy(seen, streams.seen + begin, count * sizeof(float));
    copy.seen = seen;
  }
  if (streams.wire != nullptr) copy.wire = wire;

  const bool finite = update_whole<Gradient, State>(rule, copy, scale, kBlock);

  std::memcpy(streams.parameters + begin, parameters, count * sizeof(float));
  for (std::uint32_t s = 0; s < Rule::kPlanes; ++s)
    std::memcpy(static_cast<StateElement*>(streams.state[s]) + begin, state[s],
                count * sizeof(StateElement));
  if (streams.seen != nullptr) std::memcpy(streams.seen + begin, seen, count * sizeof(float));
  if (streams.wire != nullptr) {
    const std::size_t bytes = dtype_bytes(streams.wire_dtype);
    std::memcpy(static_cast<char*>(streams.wire) + begin * bytes, wire, count * bytes);
  }
  return finite;
}

inline Streams make_streams(const Coefficients& coefficients, const UpdateArgs& args) {
  Streams streams;
  streams.workers = present_gradients(coefficients, args, streams.gradients);
  streams.clip = coefficients.clip;
  streams.l1 = coefficients.l1;
  streams.compensation = coefficients.compensation;
  streams.rounding_key = coefficients.rounding_key;
  streams.first_element = static_cast<std::uint32_t>(args.first_element);
  streams.parameters = args.parameters;
  const std::uint32_t planes = state_planes(coefficients.rule);
  for (std::uint32_t s = 0; s < planes; ++s) streams.state[s] = args.state[s];
  streams.seen = coefficients.compensation != 0 ? static_cast<float*>(args.state[planes]) : nullptr;
  streams.wire = args.wire;
  streams.wire_dtype = args.wire_dtype;
  const bool aligned = reinterpret_cast<std::uintptr_t>(args.wire) % kLineBytes == 0;
  streams.stream_wire = args.stream_wire && aligned;
  return streams;
}

template <class State>
bool update_plain(const Coefficients& coefficients, const UpdateArgs& args) {
  const Streams streams = make_streams(coefficients, args);
  const Vector scale = splat<Vector>(args.scale);
  const std::size_t whole = args.count / kBlock * kBlock;
  bool finite = true;
  with_rule<Vector>(coefficients, [&](const auto& rule) HWY_ATTR {
    with_element(args.gradient_dtype, [&](auto type) HWY_ATTR {
      finite = update_whole<decltype(type), State>(rule, streams, scale, whole);
      if (whole < args.count)
        finite &=
            update_tail<decltype(type), State>(rule, streams, scale, whole, args.count - whole);
    });
  });
  return finite;
}

// The streams from element `first` on, with one gradient.
template <class State>
Streams behind(const Streams& streams, std::size_t first, std::uint32_t planes,
               const float* gradient) {
  Streams rest = streams;
  rest.workers = 1;
  rest.gradients[0] = gradient;
  rest.parameters += first;
  rest.first_element += static_cast<std::uint32_t>(first);
  for (std::uint32_t s = 0; s < planes; ++s)
    rest.state[s] = static_cast<typename State::Element*>(rest.state[s]) + first;
  if (rest.seen != nullptr) rest.seen += first;
  if (rest.wire != nullptr)
    rest.wire = static_cast<char*>(rest.wire) + first * dtype_bytes(rest.wire_dtype);
  return rest;
}

// Encoded gradients are decoded into sums that take the place of one gradient.
template <class State>
bool update_encoded(const Coefficients& coefficients, const UpdateArgs& args) {
  Streams streams = make_streams(coefficients, args);
  EncodedGradients encoded(*args.codec, streams.gradients, streams.workers, args.count);
  const Vector scale = splat<Vector>(args.scale);
  alignas(kLineBytes) float sums[kSummedAtOnce];
  streams.workers = 0;
  bool finite = true;
  with_rule<Vector>(coefficients, [&](const auto& rule) HWY_ATTR {
    constexpr std::uint32_t kPlanes = std::decay_t<decltype(rule)>::kPlanes;
    for (std::size_t begin = 0; begin < args.count; begin += kSummedAtOnce) {
      const std::size_t length = HWY_MIN(kSummedAtOnce, args.count - begin);
      const std::size_t whole = length / kBlock * kBlock;
      sum_encoded(encoded, begin, begin + length, sums);
      finite &= update_blocks<Float32, State>(rule, streams, {nullptr, 0, sums, begin}, scale,
                                              begin, begin + whole);
      if (whole < length)
        finite &= update_tail<Float32, State>(
            rule, behind<State>(streams, begin + whole, kPlanes, sums + whole), scale, 0,
            length - whole);
    }
  });
  return finite;
}

template <class State>
bool update_with(const Coefficients& coefficients, const UpdateArgs& args) {
  const bool finite = args.codec != nullptr ? update_encoded<State>(coefficients, args)
                                            : update_plain<State>(coefficients, args);
  if (args.stream_wire) hwy::FlushStream();
  return finite;
}

PENSTOCK_END_TARGET

#endif
