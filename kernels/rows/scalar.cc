// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows/scalar.h"

#include <cstring>

#include "kernels/cpu/scalar_vocabulary.h"
#include "kernels/math/half.h"
#include "kernels/math/rows-inl.h"
#include "kernels/rows/check_rows.h"
#include "kernels/rows/sort.h"

namespace penstock::scalar {
namespace {

// The row's gradient as the rule gets it; nullptr is +0 everywhere.
float gradient_of(const RowCoefficients& c, const RowUpdateArgs& args, const float* gradient,
                  std::size_t i) {
  return clipped((gradient == nullptr ? 0.0F : gradient[i]) * args.scale, c.elements.clip);
}

// See math/rows-inl.h for the order.
float mean_of(const float (&partial)[kSums], std::size_t width) {
  float sums[kSums];
  std::memcpy(sums, partial, sizeof(sums));
  for (std::uint32_t half = kSums / 2; half > 0; half /= 2)
    for (std::uint32_t j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0] / static_cast<float>(width);
}

template <class Rule>
void step_row(const Rule& rule, const RowCoefficients& c, const RowUpdateArgs& args,
              std::uint64_t row, const float* gradient) {
  const RowTable& table = args.table;
  float* parameters = table.parameters.data + row * table.parameters.stride;
  float* planes[kMaxRowPlanes] = {};
  for (std::uint32_t s = 0; s < Rule::kPlanes + Rule::kScalars; ++s)
    planes[s] = table.state[s].data + row * table.state[s].stride;

  float squares[kSums] = {}, plain[kSums] = {};
  for (std::size_t i = 0; Rule::kMeans > 0 && i < table.width; ++i) {
    const float g = rule.gradient(parameters[i], gradient_of(c, args, gradient, i));
    squares[i % kSums] = fma(g, g, squares[i % kSums]);
    plain[i % kSums] += g;
  }
  const float means[] = {mean_of(squares, table.width), mean_of(plain, table.width)};
  float scalars[kMaxRowPlanes] = {};
  for (std::uint32_t k = 0; k < Rule::kScalars; ++k) scalars[k] = *planes[Rule::kPlanes + k];
  const typename Rule::Row opened = rule.open(means, scalars);
  for (std::uint32_t k = 0; k < Rule::kScalars; ++k)
    *planes[Rule::kPlanes + k] = canonical(scalars[k]);

  for (std::size_t i = 0; i < table.width; ++i) {
    float state[kMaxRowPlanes] = {};
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) state[s] = planes[s][i];
    float p = parameters[i];
    rule(p, gradient_of(c, args, gradient, i), state, opened);
    for (std::uint32_t s = 0; s < Rule::kPlanes; ++s) planes[s][i] = canonical(state[s]);
    parameters[i] = canonical(bounded(p, c.lower, c.upper));
  }
}

std::size_t update(const RowCoefficients& coefficients, const RowUpdateArgs& args) {
  const std::size_t present = present_rows(coefficients, args);
  const bool all = args.coverage == RowCoverage::kAll;
  with_row_rule<float>(coefficients, [&](const auto& rule) {
    std::size_t next = 0;  // the next gradient
    for (std::uint64_t row = 0; row < args.table.rows; ++row) {
      if (!all && next == present) break;
      if (!all) row = args.rows[next];
      const bool has = next < present && args.rows[next] == row;
      const float* gradient = has ? args.gradients + next++ * args.table.width : nullptr;
      step_row(rule, coefficients, args, row, gradient);
    }
  });
  return args.count - present;
}

float read(const void* base, DType dtype, std::size_t i) {
  if (dtype == DType::kFloat32) {
    float value;
    std::memcpy(&value, static_cast<const char*>(base) + i * sizeof(value), sizeof(value));
    return value;
  }
  std::uint16_t code;
  std::memcpy(&code, static_cast<const char*>(base) + i * sizeof(code), sizeof(code));
  return dtype == DType::kFloat16 ? fp16_to_float(code) : bf16_to_float(code);
}

MergedRows merge(const RowMergeArgs& args) {
  const SortedRows sorted = sort_rows(args);
  const RowValues values(args);
  MergedRows merged = {0, sorted.dropped};
  for (std::size_t e = 0; e < sorted.count; ++e) {
    const std::uint32_t row = row_of(sorted.entries[e]);
    const bool first = merged.count == 0 || args.merged_rows[merged.count - 1] != row;
    if (first) args.merged_rows[merged.count++] = row;
    float* sums = args.sums + (merged.count - 1) * args.width;
    const void* value = values.at(place_of(sorted.entries[e]));
    for (std::size_t i = 0; i < args.width; ++i) {
      const float v = read(value, args.dtype, i);
      sums[i] = canonical(first ? v : sums[i] + v);
    }
  }
  return merged;
}

}  // namespace

const RowKernels kRowKernels = {"scalar", update, merge};

}  // namespace penstock::scalar
