// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What all workers must say alike about a key, and what a server needs to know of it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/protocol/types.h"
#include "kernels/codec/codec.h"
#include "kernels/dtype.h"
#include "kernels/initializer.h"
#include "kernels/optimizer.h"
#include "transport/base/status.h"

namespace penstock {

enum class Reduce : std::uint8_t { kSum, kMean };  // mean: sum × 1/(live workers)

// What becomes of a round to which a worker brings a gradient with a NaN or an infinity in it.
// Unless it accepts them the worker reads its gradient through before it pushes. Counted and logged
// in all three.
enum class NotFinite : std::uint8_t {
  kAccept,  // it is summed like any other; servers notice it in the sum
  kSkip,    // it counts as "nothing this round", for the whole key; a mean still divides by all
  kFail,    // nobody's counts: parameters and state stay, every worker's wait() is kNotFinite
};
std::string_view not_finite_name(NotFinite policy);  // "accept", "skip", "fail"
std::optional<NotFinite> parse_not_finite(std::string_view name);

struct TensorSpec {
  std::string name;                         // for people and errors; may be empty
  std::vector<std::uint64_t> shape;         // every dimension ≥ 1
  DType gradient_dtype = DType::kFloat32;   // what workers send
  DType parameter_dtype = DType::kFloat32;  // what workers receive; masters are always float32
  OptimizerSpec optimizer;
  Reduce reduce = Reduce::kMean;
  std::int32_t priority = 0;    // higher goes first among slices that are ready
  bool from_worker_0 = true;    // initial values: worker 0's parameter buffer, or …
  InitializerSpec initializer;  // … computed by the servers from a seed
  NotFinite not_finite = NotFinite::kAccept;
  double gradient_scale = 1;  // on the sum or mean; 1/s for losses that were multiplied by s
  CodecSpec codec;            // of gradients on the wire; needs float32 gradients
  bool operator==(const TensorSpec&) const = default;

  std::uint64_t elements() const;
  std::uint64_t gradient_bytes() const { return elements() * dtype_bytes(gradient_dtype); }
  std::uint64_t parameter_bytes() const { return elements() * dtype_bytes(parameter_dtype); }
  // adafactor's means by row and column would have to be added up over lanes otherwise.
  bool on_one_lane() const { return optimizer.kind == OptimizerKind::kAdaFactor; }
  // What slices are cut by: the larger of a gradient and a parameter element, without the codec.
  std::size_t slice_element_bytes() const;
  bool encoded() const { return codec.kind != CodecKind::kNone; }
  // Bytes of a slot of a slice of `count` elements: it holds a gradient or, in round 0, initial
  // values of worker 0's.
  std::uint64_t slot_bytes(std::uint64_t count) const;
};

struct Declaration {
  Key key = 0;
  TensorSpec spec;
  bool operator==(const Declaration&) const = default;
};

// kInvalidArgument naming the key, the field and the value.
Status validate(const Declaration& declaration);

// "key 7 'layer1.weight'"
std::string describe(const Declaration& declaration);

// The first difference in words, "shape [2,3] against [3,2]"; "" if equal.
std::string difference(const TensorSpec& a, const TensorSpec& b);

}  // namespace penstock
