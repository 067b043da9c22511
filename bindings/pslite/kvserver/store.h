// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What a server of the dialect does with commands, pushes and pulls: no connection, no thread.
// Answers go through a function, at once or, for the pushes of a synchronous round, when the last
// worker's is there.

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bindings/pslite/kvserver/dense_key.h"
#include "bindings/pslite/kvserver/row_key.h"

namespace penstock::kvserver {

struct StoreOptions {
  std::uint32_t workers = 1;    // pushes that make a synchronous round, 1 … kMaxWorkers
  std::uint64_t first_key = 0;  // of this server's range
};

class Store {
 public:
  using Pairs = ps::KVPairs<char>;
  using Answer = std::function<void(const ps::KVMeta&, const Pairs&)>;

  // The kernels must outlive the store.
  Store(const KernelTable& kernels, const RowKernels& rows, Answer answer);

  // Before the first push. kUnsupported: more workers than a kernel sums.
  Status configure(const StoreOptions& options);

  // Says in words what was refused; the sender is answered either way. After a refused optimizer
  // pushes are refused as well: without it they would do something else.
  Status command(int head, const std::string& body);

  // kInvalidArgument and kUnsupported: nothing was changed and nobody is answered, since the
  // dialect has no answer that says no.
  Status data(const ps::KVMeta& meta, const Pairs& pairs);

 private:
  struct Push {
    ps::KVMeta meta;
    Pairs pairs;
    bool encoded = false;
  };
  struct Dense {
    explicit Dense(DenseKey made) : key(std::move(made)) {}
    DenseKey key;
    std::vector<Push> held;  // of the round under way
  };
  struct Rows {
    explicit Rows(RowKey made) : key(std::move(made)) {}
    RowKey key;
    std::vector<Push> held;
  };

  Status set_optimizer(const std::string& body);
  Status set_multi_precision();
  Status set_codec(const std::string& body);

  Status push_dense(DataCommand command, const ps::KVMeta& meta, const Pairs& pairs);
  Status pull_dense(const ps::KVMeta& meta, const Pairs& pairs);
  Status create_dense(std::uint64_t name, ElementType element, std::size_t count,
                      const Push& values);
  Status update_dense(Dense& dense, std::vector<Push>& pushes);
  void answer_dense(const Dense& dense, const ps::KVMeta& meta, std::uint64_t name);
  // Elements that a push with this command says it has.
  Result<std::size_t> count_dense(DataCommand command, const Pairs& pairs) const;

  Status data_rows(DataCommand command, const ps::KVMeta& meta, const Pairs& pairs);
  Status push_rows(const ps::KVMeta& meta, const Pairs& pairs);
  Status pull_rows(const ps::KVMeta& meta, const Pairs& pairs);
  Status update_rows(Rows& rows, std::vector<Push>& pushes);

  Status check_may_update() const;

  const Answer answer_;
  StoreOptions options_;
  Arithmetic arithmetic_;
  ServerOptimizer optimizer_;
  bool refused_optimizer_ = false;
  bool sync_ = false;
  std::size_t held_ = 0;  // pushes of rounds under way
  std::unordered_map<std::uint64_t, Dense> dense_;
  std::unordered_map<std::uint64_t, Rows> rows_;
};

}  // namespace penstock::kvserver
