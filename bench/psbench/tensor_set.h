// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The tensors of one worker: buffers, patterns, and what the parameters must be.

#include <cstdint>
#include <string>
#include <vector>

#include "bench/psbench/model.h"
#include "engine/worker/worker.h"

namespace penstock::psbench {

struct TensorSetOptions {
  OptimizerSpec optimizer;
  DType dtype = DType::kFloat32;  // of gradients and parameters on the wire
  CodecSpec codec;                // of gradients, which are float32 then
  Reduce reduce = Reduce::kMean;
};

class TensorSet {
 public:
  // Keys are 0, 1, … in forward order; later layers, whose gradients come first, have no higher
  // priority than earlier ones: the next forward pass needs the early ones first.
  // All buffers lie in one stretch of memory that the worker allocates, and go with the worker.
  static Result<TensorSet> create(const Model& model, const TensorSetOptions& options,
                                  Worker& worker);

  std::vector<Tensor> tensors() const;
  std::size_t size() const { return items_.size(); }
  Key key(std::size_t index) const { return index; }

  void fill_initial();  // worker 0's parameters
  void fill_gradients(Rank worker, Round round);

  // Runs rounds 1 … `round` of the pattern through the reference kernels and compares this worker's
  // parameters bit by bit. Returns how many elements differ; names the first in `first_wrong`.
  std::uint64_t check(Round round, std::string& first_wrong) const;

  // The ledger: counts a round of sgd with rate 1 and sum, then compares every parameter with
  // initial − all gradients so far, in whole numbers.
  std::uint64_t audit(Round round, std::string& first_wrong);

 private:
  struct Item {
    TensorSpec spec;
    std::uint64_t elements = 0;
    std::span<std::byte> gradients, parameters;
    std::vector<std::int32_t> ledger;  // only when audited
  };
  std::uint64_t check_block(const Item& item, Key key, Round round, std::uint64_t begin,
                            std::uint64_t count, std::string& first_wrong) const;
  std::vector<Slice> check_blocks(const Item& item) const;

  std::uint64_t check_norms(Round round, std::string& first_wrong) const;

  TensorSetOptions options_;
  std::uint32_t workers_ = 1;
  std::uint64_t slice_bytes_ = 0;  // of the job
  std::uint64_t wire_bytes_ = 0;
  std::vector<Item> items_;
  std::shared_ptr<const MemoryRegion> memory_;
};

}  // namespace penstock::psbench
