// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Row-sparse keys. The first key of a request names the table and has no values; those after it
// are the same number plus the row's.

#include <fmt/format.h>

#include <algorithm>

#include "bindings/pslite/kvserver/store.h"

namespace penstock::kvserver {
namespace {

Status refuse(std::string what) { return {Code::kInvalidArgument, std::move(what)}; }

std::span<const std::uint64_t> row_ids(const ps::KVPairs<char>& pairs) {
  return {pairs.keys.data() + 1, pairs.keys.size() - 1};
}

std::span<const float> floats(const ps::KVPairs<char>& pairs) {
  return {reinterpret_cast<const float*>(pairs.vals.data()), pairs.vals.size() / sizeof(float)};
}

// Of a push: rows as wide as each other, and nothing with the first key.
Status check_lens(const ps::KVPairs<char>& pairs) {
  if (pairs.lens.size() != pairs.keys.size() || pairs.lens[0] != 0)
    return refuse("a row-sparse push whose first key is not the table's, without values");
  for (std::size_t i = 2; i < pairs.lens.size(); ++i)
    if (pairs.lens[i] != pairs.lens[1]) return refuse("a row-sparse push of unequal rows");
  const std::uint64_t rows = pairs.lens.size() - 1;
  const auto each = rows == 0 ? 0 : static_cast<std::uint64_t>(pairs.lens[1]);
  if ((rows != 0 && pairs.lens[1] <= 0) || each % sizeof(float) != 0 ||
      rows * each != pairs.vals.size())
    return refuse(fmt::format("{} rows of {} bytes in {}", rows, each, pairs.vals.size()));
  return {};
}

}  // namespace

Status Store::data_rows(DataCommand command, const ps::KVMeta& meta, const Pairs& pairs) {
  if (command.element != ElementType::kFloat32)
    return Status(Code::kUnsupported,
                  fmt::format("row-sparse keys of element type {}; only fp32 has kernels here",
                              static_cast<int>(command.element)));
  if (meta.push && meta.pull)
    return Status(Code::kUnsupported, "push and pull of a row-sparse key in one");
  return meta.push ? push_rows(meta, pairs) : pull_rows(meta, pairs);
}

Status Store::push_rows(const ps::KVMeta& meta, const Pairs& pairs) {
  PENSTOCK_RETURN_IF_ERROR(check_lens(pairs));
  Push push{meta, pairs};
  push.pairs.vals = aligned(pairs.vals, sizeof(float));
  const std::uint64_t name = pairs.keys[0];
  const auto found = rows_.find(name);
  if (found == rows_.end()) {
    Result<RowKey> key = RowKey::make(name, row_ids(push.pairs), floats(push.pairs));
    if (!key.ok()) return key.status();
    rows_.emplace(name, std::move(*key));
    answer_(meta, {});
    return {};
  }
  Rows& rows = found->second;
  PENSTOCK_RETURN_IF_ERROR(rows.key.has_rows(row_ids(pairs)));
  if (pairs.lens.size() > 1 &&
      static_cast<std::size_t>(pairs.lens[1]) != rows.key.width() * sizeof(float))
    return refuse(fmt::format("rows of {} bytes for a table whose rows have {} floats",
                              pairs.lens[1], rows.key.width()));
  PENSTOCK_RETURN_IF_ERROR(check_may_update());
  if (!sync_) {
    std::vector<Push> alone;
    alone.push_back(std::move(push));
    return update_rows(rows, alone);
  }
  rows.held.push_back(std::move(push));
  ++held_;
  if (rows.held.size() < options_.workers) return {};
  held_ -= rows.held.size();
  std::vector<Push> round = std::move(rows.held);
  rows.held.clear();
  return update_rows(rows, round);
}

// An asynchronous push of no rows is no update.
Status Store::update_rows(Rows& rows, std::vector<Push>& pushes) {
  std::stable_sort(pushes.begin(), pushes.end(),
                   [](const Push& a, const Push& b) { return a.meta.sender < b.meta.sender; });
  std::vector<RowGradient> gradients;
  for (const Push& push : pushes) {
    const auto ids = row_ids(push.pairs);
    gradients.push_back({ids.data(), floats(push.pairs).data(), ids.size()});
  }
  if (sync_ || gradients.front().count != 0)
    PENSTOCK_RETURN_IF_ERROR(rows.key.apply(arithmetic_, gradients));
  for (const Push& push : pushes) answer_(push.meta, {});
  return {};
}

// Lens are in elements here, in bytes everywhere else: the dialect has it so.
Status Store::pull_rows(const ps::KVMeta& meta, const Pairs& pairs) {
  const auto found = rows_.find(pairs.keys[0]);
  if (found == rows_.end())
    return refuse(fmt::format("a pull of row-sparse key {}, which nobody has pushed",
                              pairs.keys[0] - options_.first_key));
  const RowKey& key = found->second.key;
  PENSTOCK_RETURN_IF_ERROR(key.has_rows(row_ids(pairs)));
  Pairs rows;
  rows.keys = pairs.keys;
  rows.lens = ps::SArray<int>(pairs.keys.size(), static_cast<int>(key.width()));
  rows.lens[0] = 0;
  rows.vals = key.gather(row_ids(pairs));
  answer_(meta, rows);
  return {};
}

}  // namespace penstock::kvserver
