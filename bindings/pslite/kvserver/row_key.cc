// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/kvserver/row_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace penstock::kvserver {

Result<RowKey> RowKey::make(std::uint64_t first_id, std::span<const std::uint64_t> ids,
                            std::span<const float> values) {
  const auto refuse = [](std::string what) {
    return Status(Code::kInvalidArgument, std::move(what))
        .with_hint("the first push of a row-sparse key brings all of its rows");
  };
  if (ids.empty() || values.empty() || values.size() % ids.size() != 0)
    return refuse(fmt::format("{} rows of {} values make no table", ids.size(), values.size()));
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] != first_id + i)
      return refuse(fmt::format("row {} is where row {} should be", ids[i] - first_id, i));
  return RowKey(first_id, ids.size(), values);
}

RowKey::RowKey(std::uint64_t first_id, std::size_t rows, std::span<const float> values)
    : first_id_(first_id),
      rows_(rows),
      width_(values.size() / rows),
      parameters_(values.begin(), values.end()) {}

Status RowKey::has_rows(std::span<const std::uint64_t> ids) const {
  for (const std::uint64_t id : ids)
    if (id < first_id_ || id - first_id_ >= rows_)
      return {Code::kInvalidArgument,
              fmt::format("row {} of a table that has {}",
                          static_cast<std::int64_t>(id - first_id_), rows_)};
  return {};
}

MergedRows RowKey::merge(const Arithmetic& arithmetic, std::span<const RowGradient> gradients) {
  RowMergeArgs args;
  std::array<RowContribution, kMaxWorkers> workers;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    workers[i] = {gradients[i].ids, gradients[i].values, gradients[i].count};
    args.capacity += gradients[i].count;
  }
  if (args.capacity == 0) return {};
  sorting_.resize(2 * args.capacity);
  merged_rows_.resize(args.capacity);
  sums_.resize(args.capacity * width_);
  args.workers = workers.data();
  args.worker_count = static_cast<std::uint32_t>(gradients.size());
  args.width = width_;
  args.first_id = first_id_;
  args.rows = rows_;
  args.scratch = sorting_.data();
  args.merged_rows = merged_rows_.data();
  args.sums = sums_.data();
  return arithmetic.rows.merge(args);
}

Status RowKey::apply(const Arithmetic& arithmetic, std::span<const RowGradient> gradients) {
  if (gradients.empty() || gradients.size() > kMaxWorkers)
    return {Code::kInvalidArgument, fmt::format("an update of {} gradients", gradients.size())};
  const MergedRows merged = merge(arithmetic, gradients);
  if (arithmetic.optimizer != nullptr) return step(arithmetic, merged.count);
  for (std::size_t i = 0; i < merged.count; ++i)
    std::memcpy(parameters_.data() + merged_rows_[i] * width_, sums_.data() + i * width_,
                width_ * sizeof(float));
  return {};
}

void RowKey::begin_state(const Arithmetic& arithmetic) {
  const RowOptimizerSpec spec{.elements = arithmetic.optimizer->spec};
  for (std::uint32_t plane = 0; plane < kMaxRowPlanes; ++plane) {
    state_[plane].clear();
    if (plane < row_planes(spec).elements)
      state_[plane].assign(rows_ * width_, initial_row_state(spec, plane));
  }
  generation_ = arithmetic.generation;
  steps_ = 0;
}

Status RowKey::step(const Arithmetic& arithmetic, std::size_t merged) {
  const ServerOptimizer& optimizer = *arithmetic.optimizer;
  PENSTOCK_RETURN_IF_ERROR(validate(RowOptimizerSpec{.elements = optimizer.spec}));
  if (generation_ != arithmetic.generation) begin_state(arithmetic);
  RowUpdateArgs args;
  args.table.parameters = {parameters_.data(), width_};
  for (std::uint32_t plane = 0; plane < kMaxRowPlanes; ++plane)
    if (!state_[plane].empty()) args.table.state[plane] = {state_[plane].data(), width_};
  args.table.rows = rows_;
  args.table.width = width_;
  args.rows = merged_rows_.data();
  args.gradients = sums_.data();
  args.count = merged;
  args.scale = optimizer.scale;
  args.coverage = optimizer.coverage;
  arithmetic.rows.update(optimizer.fold_rows(++steps_), args);
  return {};
}

ps::SArray<char> RowKey::gather(std::span<const std::uint64_t> ids) const {
  const std::size_t row_bytes = width_ * sizeof(float);
  ps::SArray<char> gathered(ids.size() * row_bytes);
  for (std::size_t i = 0; i < ids.size(); ++i)
    std::memcpy(gathered.data() + i * row_bytes, parameters_.data() + (ids[i] - first_id_) * width_,
                row_bytes);
  return gathered;
}

}  // namespace penstock::kvserver
