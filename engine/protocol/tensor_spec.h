// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What all workers must say alike about a key, and what a server needs to know of it.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/protocol/types.h"
#include "kernels/dtype.h"
#include "kernels/initializer.h"
#include "kernels/optimizer.h"
#include "transport/base/status.h"

namespace penstock {

enum class Reduce : std::uint8_t { kSum, kMean };  // mean: sum × 1/(live workers)

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
  bool operator==(const TensorSpec&) const = default;

  std::uint64_t elements() const;
  std::uint64_t gradient_bytes() const { return elements() * dtype_bytes(gradient_dtype); }
  std::uint64_t parameter_bytes() const { return elements() * dtype_bytes(parameter_dtype); }
  // adafactor's means by row and column would have to be added up over lanes otherwise.
  bool on_one_lane() const { return optimizer.kind == OptimizerKind::kAdaFactor; }
  // A slot holds a gradient slice, or a slice of initial values in round 0.
  std::size_t slot_element_bytes() const;
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
