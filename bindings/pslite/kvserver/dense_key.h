// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A key's part on this server: what is pulled, and behind it, once there is an optimizer, float32
// parameters and the optimizer's state.
//
// With an optimizer, a round is one pass of the fused kernel over the gradients as they came. fp16
// and bf16 keys keep float32 parameters between updates only with multi-precision, else the rounded
// ones are where the next update starts; sums are float32 either way. Other element types are
// summed only.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bindings/pslite/kvserver/dialect.h"
#include "bindings/pslite/kvserver/server_optimizer.h"
#include "bindings/pslite/kvserver/value_pool.h"
#include "kernels/table.h"

namespace penstock::kvserver {

// What one worker pushed, in the key's element type or encoded.
struct Gradient {
  const char* bytes = nullptr;  // aligned to the element, if not encoded
  bool encoded = false;
};

// How a round is computed, the same for all keys.
struct Arithmetic {
  const KernelTable& kernels;
  const RowKernels& rows;
  const ServerOptimizer* optimizer = nullptr;  // null: sums replace what was there
  std::uint64_t generation = 0;                // of the optimizer: a new one starts with new state
  bool multi_precision = false;
  CodecSpec codec = {};  // of encoded gradients
};

class DenseKey {
 public:
  DenseKey(ElementType element, std::size_t count);

  // Values that everything starts from.
  void assign(const Arithmetic& arithmetic, const Gradient& values);

  // One update by all these gradients, summed in their order. kInvalidArgument: not 1 to
  // kMaxWorkers of them. kUnsupported: an optimizer and an element type without kernels.
  Status apply(const Arithmetic& arithmetic, std::span<const Gradient> gradients);

  // What a pull gives; not written any more.
  const ps::SArray<char>& value() const { return value_; }
  ElementType element() const { return element_; }
  std::size_t count() const { return count_; }
  std::size_t bytes() const { return count_ * element_bytes(element_); }

 private:
  void replace(const Arithmetic& arithmetic, std::span<const Gradient> gradients);
  Status step(const Arithmetic& arithmetic, std::span<const Gradient> gradients);
  void sum_floats(const Arithmetic& arithmetic, std::span<const Gradient> gradients);
  void begin_state(const Arithmetic& arithmetic);
  bool keeps_parameters(const Arithmetic& arithmetic) const;

  const ElementType element_;
  const std::size_t count_;
  ValuePool pool_;
  ps::SArray<char> value_;
  std::vector<float> parameters_;
  bool kept_ = false;  // parameters_ are what value_ was rounded from; else to be read from it
  std::vector<float> scratch_;
  std::vector<std::byte> state_[kMaxStatePlanes];
  std::uint64_t generation_ = 0;  // of state_; 0: none
  std::uint64_t steps_ = 0;
};

}  // namespace penstock::kvserver
