// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the kernel benchmarks measure: one update of W bf16 gradients, done in one fused pass, done
// in separate passes, and merely read.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/table.h"

namespace penstock::bench {

struct Shape {
  OptimizerKind kind = OptimizerKind::kAdamW;
  std::uint32_t workers = 8;
  DType gradient_dtype = DType::kBfloat16;
  DType wire_dtype = DType::kBfloat16;
  std::size_t elements = 64U << 20;
};

// Bytes a fused pass reads: (W·g + 4 + 4·S) per element.
std::size_t read_bytes(const Shape& shape);

// Zero-filled, 64-byte aligned memory, on huge pages where the system grants them.
class Memory {
 public:
  explicit Memory(std::size_t bytes);
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(bytes_.get());
  }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  std::size_t size_;
  std::unique_ptr<std::byte, Free> bytes_;
};

// The arrays of one shape, filled with small seeded values, and the three ways through them.
class Workload {
 public:
  explicit Workload(const Shape& shape);

  // One pass.
  void fused(const KernelTable& kernels, bool stream_wire);

  // The usual way of parameter servers: decode the first gradient into a float32 sum, add the
  // others one by one, update from the sum, cast the parameters. Each pass is one of our own
  // kernels (the addition is an sgd step of rate −1), so only the number of passes differs.
  void separate(const KernelTable& kernels);

  // Reads every byte the fused pass reads, and does nothing else; the faster of two ways: array
  // after array, or all side by side with prefetches.
  std::uint64_t read_in_turn() const;
  std::uint64_t read_side_by_side() const;

  const Shape& shape() const { return shape_; }
  const Memory& wire() const { return wire_; }

 private:
  Shape shape_;
  std::vector<Memory> gradients_;
  std::vector<const void*> gradient_pointers_;
  Memory parameters_;
  std::vector<Memory> state_;
  Memory wire_, sum_;
  Coefficients coefficients_;
};

}  // namespace penstock::bench
