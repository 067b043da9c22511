// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The sums of a merge. Contributions to one row lie anywhere in what the workers sent: their cache
// lines are asked for some entries ahead.

#if defined(PENSTOCK_KERNELS_ROWS_MERGE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef PENSTOCK_KERNELS_ROWS_MERGE_INL_H
#undef PENSTOCK_KERNELS_ROWS_MERGE_INL_H
#else
#define PENSTOCK_KERNELS_ROWS_MERGE_INL_H
#endif

#include "kernels/rows/partial-inl.h"
#include "kernels/rows/sort.h"

PENSTOCK_BEGIN_TARGET

inline constexpr std::size_t kMergeAhead = 16;  // entries; 8 … 32 measure alike

// sums = value, or sums + value.
template <class Type>
HWY_INLINE void add_value(const void* value, bool first, std::size_t width, float* sums) {
  const auto* from = static_cast<const typename Type::Element*>(value);
  std::size_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    const Vector v = Type::load(from + i);
    Float32::store(canonical(first ? v : add(Float32::load(sums + i), v)), sums + i);
  }
  if (i == width) return;
  const FirstLanes lanes(width - i);
  const Vector v = load_first<Type>(lanes, from + i, width - i);
  lanes.store(canonical(first ? v : add(lanes.load(sums + i), v)), sums + i);
}

template <class Type>
MergedRows sum_entries(const RowMergeArgs& args, const SortedRows& sorted) {
  const RowValues values(args);
  MergedRows merged = {0, sorted.dropped};
  for (std::size_t e = 0; e < sorted.count; ++e) {
    if (e + kMergeAhead < sorted.count)
      __builtin_prefetch(values.at(place_of(sorted.entries[e + kMergeAhead])), 0, 3);
    const std::uint32_t row = row_of(sorted.entries[e]);
    const bool first = merged.count == 0 || args.merged_rows[merged.count - 1] != row;
    if (first) args.merged_rows[merged.count++] = row;
    add_value<Type>(values.at(place_of(sorted.entries[e])), first, args.width,
                    args.sums + (merged.count - 1) * args.width);
  }
  return merged;
}

inline MergedRows merge_rows(const RowMergeArgs& args) {
  const SortedRows sorted = sort_rows(args);
  MergedRows merged;
  with_element(args.dtype,
               [&](auto type) HWY_ATTR { merged = sum_entries<decltype(type)>(args, sorted); });
  return merged;
}

PENSTOCK_END_TARGET

#endif
