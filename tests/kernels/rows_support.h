// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Seeded tables and gradients for the tests of the row kernels.

#include <string>
#include <vector>

#include "kernels/row_optimizer.h"
#include "kernels/rows.h"
#include "tests/kernels/support.h"

namespace penstock::test {

struct RowCase {
  RowOptimizerSpec optimizer;
  std::uint64_t rows = 20;
  std::size_t width = 16;
  std::size_t gap = 0;      // floats between one row of a plane and the next, which must stay
  std::size_t touched = 7;  // rows with a gradient, at most `rows`
  std::size_t beyond = 0;   // rows with a gradient that the table does not have
  RowCoverage coverage = RowCoverage::kTouched;
  Flavour flavour = Flavour::kOrdinary;
  std::size_t offset = 0;  // bytes from a cache line, a multiple of 4
  float scale = 1;
  std::uint64_t seed = 1;
};
std::string describe(const RowCase& c);

// Every rule of the dense kernels in every form, and every other row rule, with and without decay,
// clipping and bounds.
const std::vector<RowOptimizerSpec>& row_variants();

// The arrays of a RowCase.
class RowArrays {
 public:
  explicit RowArrays(const RowCase& c);
  RowUpdateArgs args();
  void new_gradients();  // other rows, other values
  std::size_t update(const RowKernels& kernels, std::uint64_t step);

  float& parameter(std::uint64_t row, std::size_t i);
  float& state(std::uint32_t plane, std::uint64_t row, std::size_t i);
  const std::vector<std::uint32_t>& touched() const { return touched_; }
  // nullptr where the row has none.
  const float* gradient(std::uint64_t row) const;

  // Parameters and state with what lies between rows.
  std::vector<std::byte> results() const;
  bool guards_intact() const;

 private:
  std::size_t stride() const { return case_.width + case_.gap; }
  RowCase case_;
  SeededRandom random_;
  Array parameters_;
  std::vector<Array> planes_;
  std::vector<std::uint32_t> touched_;
  std::vector<float> gradients_;
};

}  // namespace penstock::test
