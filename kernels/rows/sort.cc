// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows/sort.h"

#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "transport/base/check.h"

namespace penstock {
namespace {

constexpr std::uint32_t kDigitBits = 8;
constexpr std::uint32_t kDigits = 1U << kDigitBits;
constexpr std::uint32_t kRowShift = 32;

// Appends the entries of one worker whose ids the table has.
template <class Id>
std::size_t add_entries(const RowMergeArgs& args, const RowContribution& from, std::uint64_t place,
                        RowEntry* entries) {
  const char* ids = static_cast<const char*>(from.ids);
  std::size_t count = 0;
  for (std::size_t i = 0; i < from.count; ++i) {
    Id id;
    std::memcpy(&id, ids + i * sizeof(Id), sizeof(Id));
    const std::uint64_t row = id - args.first_id;  // wraps for ids below the first
    entries[count] = row << kRowShift | (place + i);
    count += row < args.rows ? 1 : 0;
  }
  return count;
}

// By row, digit by digit from the lowest; entries that come earlier stay earlier. Returns where the
// result is: `from` or `to`.
RowEntry* radix_sort(RowEntry* from, RowEntry* to, std::size_t count, std::uint32_t row_bits) {
  for (std::uint32_t shift = kRowShift; shift < kRowShift + row_bits; shift += kDigitBits) {
    std::size_t starts[kDigits] = {};
    for (std::size_t i = 0; i < count; ++i) ++starts[from[i] >> shift & (kDigits - 1)];
    std::size_t sum = 0;
    for (std::size_t& start : starts) sum += std::exchange(start, sum);
    for (std::size_t i = 0; i < count; ++i)
      to[starts[from[i] >> shift & (kDigits - 1)]++] = from[i];
    std::swap(from, to);
  }
  return from;
}

bool ascends(const RowEntry* entries, std::size_t count) {
  for (std::size_t i = 1; i < count; ++i)
    if (entries[i] < entries[i - 1]) return false;
  return true;
}

}  // namespace

SortedRows sort_rows(const RowMergeArgs& args) {
  CHECK(args.worker_count >= 1 && args.worker_count <= kMaxWorkers, "{} workers",
        args.worker_count);
  CHECK(args.id_bytes == 4 || args.id_bytes == 8, "ids of {} bytes", args.id_bytes);
  CHECK(args.rows <= kMaxRows && args.width > 0, "{} rows of {}", args.rows, args.width);
  CHECK(args.capacity <= kMaxMergedRows, "capacity {}", args.capacity);
  std::size_t count = 0;
  std::uint64_t place = 0;
  for (std::uint32_t w = 0; w < args.worker_count; ++w) {
    const RowContribution& from = args.workers[w];
    CHECK(from.count <= args.capacity - place, "worker {} sent {} rows, room is for {}", w,
          from.count, args.capacity);
    count += args.id_bytes == 4
                 ? add_entries<std::uint32_t>(args, from, place, args.scratch + count)
                 : add_entries<std::uint64_t>(args, from, place, args.scratch + count);
    place += from.count;
  }
  const RowEntry* entries = args.scratch;
  if (!ascends(entries, count)) {
    const auto bits = static_cast<std::uint32_t>(std::bit_width(args.rows - 1));
    entries = radix_sort(args.scratch, args.scratch + args.capacity, count, bits);
  }
  return {entries, count, place - count};
}

RowValues::RowValues(const RowMergeArgs& args) : row_bytes_(args.width * dtype_bytes(args.dtype)) {
  std::uint64_t place = 0;
  for (std::uint32_t w = 0; w < kMaxWorkers; ++w) {
    const bool is = w < args.worker_count;
    firsts_[w] = is ? place : std::numeric_limits<std::uint64_t>::max();
    bases_[w] = is ? static_cast<const char*>(args.workers[w].values) : nullptr;
    if (is) place += args.workers[w].count;
  }
}

}  // namespace penstock
