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

// Bytes a fused pass reads per element: W·g + 4 + 4·S.
std::size_t read_bytes(const Shape& shape);

// Some of the elements; a multiple of 32 of them.
struct Range {
  std::size_t first;
  std::size_t count;
};

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

// The arrays of one shape, filled with small seeded values, and the ways through a range of them.
class Workload {
 public:
  explicit Workload(const Shape& shape);

  // One pass.
  void fused(const KernelTable& kernels, Range range, bool stream_wire);

  // The usual way of parameter servers: decode the first gradient into a float32 sum, add the
  // others one by one, update from the sum, cast the parameters. Each pass is one of our own
  // kernels (the addition is an sgd step of rate −1), so only the number of passes differs.
  void separate(const KernelTable& kernels, Range range);

  // Reads every byte the fused pass reads, and does nothing else: array after array, or all side by
  // side with prefetches. Returns something made of the bytes.
  std::uint64_t read_in_turn(Range range) const;
  std::uint64_t read_side_by_side(Range range) const;

  // What a socket does before and after: gradients copied in from a small hot buffer, the wire
  // copied out to one.
  void receive(Range range);
  void send(Range range);

  const Shape& shape() const { return shape_; }

 private:
  struct Stream {
    const std::byte* at;
    std::size_t element_bytes;
  };
  std::vector<Stream> streams(Range range) const;  // all that a fused pass reads
  UpdateArgs arguments(Range range);               // without gradients and wire
  const void* gradient(std::uint32_t worker, Range range) const;
  std::byte* wire(Range range) const;

  Shape shape_;
  std::vector<Memory> gradients_;
  Memory parameters_;
  std::vector<Memory> state_;
  Memory wire_, sum_, socket_;
  Coefficients coefficients_;
};

}  // namespace penstock::bench
