// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the kernel benchmarks measure: one update from W gradients, done in one fused pass, done in
// separate passes, and merely read. Thread: the caller's alone.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "transport/base/host_memory.h"

namespace penstock::bench {

struct Shape {
  OptimizerSpec optimizer = default_optimizer(OptimizerKind::kAdamW);
  std::uint32_t workers = 8;
  DType dtype = DType::kBfloat16;  // of gradients and wire; fp32 has no wire, as on servers
  std::size_t elements = 64U << 20;
};

// Bytes per element that a fused pass reads (W·g + 4 + 4·S) and that it writes to the wire.
std::size_t read_bytes(const Shape& shape);
std::size_t wire_bytes(const Shape& shape);

// Some of the elements; a multiple of 32 of them.
struct Range {
  std::size_t first;
  std::size_t count;
};

// The arrays of one shape, filled with small seeded values, and the ways through a range of them.
class Workload {
 public:
  // kExhausted when the system has no such memory.
  static Result<Workload> make(const Shape& shape);

  // One pass. A streamed wire goes around the caches.
  void fused(const KernelTable& kernels, Range range, bool stream_wire);

  // The usual way of parameter servers: decode the first gradient into a float32 sum, add the
  // others one by one, update from the sum, cast the parameters if there is a wire. Each pass is
  // one of our own kernels (the addition is an sgd step of rate −1), so only the number of passes
  // differs.
  void separate(const KernelTable& kernels, Range range);

  // The same update by the loop shape of CPUAdam. Only where has_cpu_adam().
  void cpu_adam(Range range);
  bool has_cpu_adam() const;  // adamw of one worker in float32

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
  explicit Workload(const Shape& shape);
  Status allocate();
  void fill();
  std::vector<Stream> streams(Range range) const;  // all that a fused pass reads
  UpdateArgs arguments(Range range);               // without gradients and wire
  const void* gradient(std::uint32_t worker, Range range) const;
  std::byte* wire(Range range) const;  // nullptr without one

  Shape shape_;
  std::vector<HostMemory> gradients_, state_;
  HostMemory parameters_, wire_, sum_, socket_;
  Coefficients coefficients_;
};

}  // namespace penstock::bench
