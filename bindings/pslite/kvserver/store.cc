// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/kvserver/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace penstock::kvserver {
namespace {

Status refuse(std::string what) { return {Code::kInvalidArgument, std::move(what)}; }

// Of a round's pushes; the order of sums does not depend on who came first.
template <class Push>
void sort_by_worker(std::vector<Push>& pushes) {
  std::stable_sort(pushes.begin(), pushes.end(),
                   [](const Push& a, const Push& b) { return a.meta.sender < b.meta.sender; });
}

}  // namespace

Store::Store(const KernelTable& kernels, const RowKernels& rows, Answer answer)
    : answer_(std::move(answer)), arithmetic_{.kernels = kernels, .rows = rows} {}

Status Store::configure(const StoreOptions& options) {
  if (options.workers == 0 || options.workers > kMaxWorkers)
    return Status(Code::kUnsupported, fmt::format("a job of {} workers; a server sums up to {}",
                                                  options.workers, kMaxWorkers));
  options_ = options;
  return {};
}

// ---- commands -----------------------------------------------------------------------------------

Status Store::command(int head, const std::string& body) {
  switch (static_cast<Head>(head)) {
    case Head::kController:
      return set_optimizer(body);
    case Head::kSetMultiPrecision:
      return set_multi_precision();
    case Head::kStopServer:
      return {};  // the program's affair
    case Head::kSyncMode:
      sync_ = true;
      return {};
    case Head::kSetGradientCompression:
      return set_codec(body);
    case Head::kSetProfilerParams:
      return Status(Code::kUnsupported, "this server has no profiler; the command does nothing");
  }
  return refuse(fmt::format("command {} is none of 0 to 5", head));
}

Status Store::set_optimizer(const std::string& body) {
  Result<ServerOptimizer> optimizer = parse_server_optimizer(body);
  refused_optimizer_ = !optimizer.ok();
  if (!optimizer.ok()) return optimizer.status();
  optimizer_ = *optimizer;
  arithmetic_.optimizer = &optimizer_;
  ++arithmetic_.generation;
  return {};
}

Status Store::set_multi_precision() {
  if (held_ != 0) return refuse("multi-precision cannot begin in the middle of a round");
  arithmetic_.multi_precision = true;
  return {};
}

// "type,threshold"; type 0 none, 1 1-bit, 2 2-bit.
Status Store::set_codec(const std::string& body) {
  int type = 0;
  float threshold = 0.5F;
  const char* const end = body.data() + body.size();
  auto [at, error] = std::from_chars(body.data(), end, type);
  if (error == std::errc() && at != end && *at == ',')
    std::tie(at, error) = [&] {
      const auto read = std::from_chars(at + 1, end, threshold);
      return std::pair(read.ptr, read.ec);
    }();
  if (error != std::errc() || at != end || type < 0 || type > 2)
    return refuse(fmt::format("the compression \"{}\" is no type (0, 1 or 2) with a threshold",
                              body.substr(0, 40)));
  CodecSpec codec;
  codec.kind = type == 0 ? CodecKind::kNone : type == 1 ? CodecKind::kOneBit : CodecKind::kTwoBit;
  codec.threshold = threshold;
  PENSTOCK_RETURN_IF_ERROR(validate(codec));
  if (held_ != 0) return refuse("compression cannot change in the middle of a round");
  arithmetic_.codec = codec;
  return {};
}

// ---- data ---------------------------------------------------------------------------------------

Status Store::check_may_update() const {
  if (refused_optimizer_) return refuse("a push after an optimizer that was refused");
  if (!sync_ && arithmetic_.optimizer == nullptr)
    return refuse("an asynchronous push, and no optimizer is set")
        .with_hint("set one, or choose a synchronous store");
  return {};
}

Status Store::data(const ps::KVMeta& meta, const Pairs& pairs) {
  const Result<DataCommand> command = decode_command(meta.cmd);
  if (!command.ok()) return command.status();
  if (pairs.keys.empty() || (!meta.push && !meta.pull)) return refuse("a request for nothing");
  if (command->request == RequestType::kRowSparse) return data_rows(*command, meta, pairs);
  if (command->request == RequestType::kCompressed && meta.push && meta.pull)
    return Status(Code::kUnsupported, "push and pull in one with compression");
  return meta.push ? push_dense(*command, meta, pairs) : pull_dense(meta, pairs);
}

// ---- dense keys ---------------------------------------------------------------------------------

Result<std::size_t> Store::count_dense(DataCommand command, const Pairs& pairs) const {
  const std::size_t bytes = pairs.vals.size();
  if (command.request == RequestType::kDefault) {
    if (pairs.keys.size() != 1) return refuse("a dense push of more than one key");
    if (bytes % element_bytes(command.element) != 0)
      return refuse(fmt::format("{} bytes are no whole number of elements", bytes));
    return bytes / element_bytes(command.element);
  }
  // The first key says how many elements were encoded.
  if (command.element != ElementType::kFloat32 || arithmetic_.codec.kind == CodecKind::kNone)
    return refuse("a compressed push that is not fp32, or before compression was set");
  if (pairs.keys.size() != 2 || pairs.lens.size() != 2 || pairs.lens[0] != 0 ||
      pairs.keys[0] < options_.first_key)
    return refuse("a compressed push without the key that says how long it is");
  const std::uint64_t count = pairs.keys[0] - options_.first_key;
  if (count > kMaxCodecCount || encoded_bytes(arithmetic_.codec, count) > bytes)
    return refuse(
        fmt::format("{} bytes for {} elements are too few for this compression", bytes, count));
  return count;
}

Status Store::push_dense(DataCommand command, const ps::KVMeta& meta, const Pairs& pairs) {
  const Result<std::size_t> count = count_dense(command, pairs);
  if (!count.ok()) return count.status();
  const bool encoded = command.request == RequestType::kCompressed;
  const std::uint64_t name = pairs.keys.back();
  Push push{meta, pairs, encoded};
  push.pairs.vals = aligned(pairs.vals, element_bytes(command.element));

  const auto found = dense_.find(name);
  if (found == dense_.end()) return create_dense(name, command.element, *count, push);
  Dense& dense = found->second;
  if (dense.key.element() != command.element || dense.key.count() != *count)
    return refuse(
        fmt::format("{} elements of type {} are pushed for key {}, which has {} of type {}", *count,
                    static_cast<int>(command.element), name - options_.first_key, dense.key.count(),
                    static_cast<int>(dense.key.element())));
  PENSTOCK_RETURN_IF_ERROR(check_may_update());
  if (!sync_) {
    std::vector<Push> alone;
    alone.push_back(std::move(push));
    return update_dense(dense, alone);
  }
  dense.held.push_back(std::move(push));
  ++held_;
  if (dense.held.size() < options_.workers) return {};
  held_ -= dense.held.size();
  std::vector<Push> round = std::move(dense.held);
  dense.held.clear();
  return update_dense(dense, round);
}

// The first push of a key is its initial value.
Status Store::create_dense(std::uint64_t name, ElementType element, std::size_t count,
                           const Push& values) {
  DenseKey key(element, count);
  key.assign(arithmetic_, {values.pairs.vals.data(), values.encoded});
  const Dense& dense = dense_.emplace(name, std::move(key)).first->second;
  answer_dense(dense, values.meta, name);
  return {};
}

Status Store::update_dense(Dense& dense, std::vector<Push>& pushes) {
  sort_by_worker(pushes);
  std::vector<Gradient> gradients;
  for (const Push& push : pushes) gradients.push_back({push.pairs.vals.data(), push.encoded});
  PENSTOCK_RETURN_IF_ERROR(dense.key.apply(arithmetic_, gradients));
  for (const Push& push : pushes) answer_dense(dense, push.meta, push.pairs.keys.back());
  return {};
}

void Store::answer_dense(const Dense& dense, const ps::KVMeta& meta, std::uint64_t name) {
  Pairs pairs;
  if (meta.pull) {
    pairs.keys.push_back(name);
    pairs.lens.push_back(static_cast<int>(dense.key.bytes()));
    pairs.vals = dense.key.value();
  }
  answer_(meta, pairs);
}

Status Store::pull_dense(const ps::KVMeta& meta, const Pairs& pairs) {
  if (pairs.keys.size() != 1) return refuse("a dense pull of more than one key");
  const auto found = dense_.find(pairs.keys[0]);
  if (found == dense_.end())
    return refuse(fmt::format("a pull of key {}, which nobody has pushed",
                              pairs.keys[0] - options_.first_key));
  answer_dense(found->second, meta, pairs.keys[0]);
  return {};
}

}  // namespace penstock::kvserver
