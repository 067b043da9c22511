// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inputs and arguments shared by the kernel tests.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "transport/base/random.h"

namespace penstock::test {

// Bytes at a chosen offset from a cache line, with guard bytes behind that must stay as they are.
class Array {
 public:
  Array(std::size_t bytes, std::size_t offset);
  template <class T>
  T* as() {
    return reinterpret_cast<T*>(start());
  }
  std::vector<std::byte> bytes() const;
  bool guards_intact() const;

 private:
  std::byte* start() { return storage_.data() + shift_; }
  std::vector<std::byte> storage_;
  std::size_t shift_, bytes_;
};

// Random floats of one flavour.
enum class Flavour { kOrdinary, kSubnormal, kExtreme, kAnyBits };
float random_float(SeededRandom& random, Flavour flavour);

// Everything one update needs, seeded; `offset` bytes from 64-byte alignment (a multiple of 4).
struct Case {
  OptimizerSpec optimizer = default_optimizer(OptimizerKind::kSgd);
  std::uint32_t workers = 1;
  std::size_t count = 1;
  DType gradient_dtype = DType::kFloat32;
  DType wire_dtype = DType::kFloat32;
  bool has_wire = true;
  bool stream_wire = false;
  std::size_t offset = 0;
  Flavour flavour = Flavour::kOrdinary;
  std::uint32_t absent_per_million = 0;  // chance of "nothing this round", per worker
  float scale = 1;
  std::uint64_t first_element = 0;
  std::uint64_t seed = 1;
};
std::string describe(const Case& c);

// Every kind without norms in every form it has, with numbers that exercise each term.
const std::vector<OptimizerSpec>& optimizer_variants();

// The spec with an L1 penalty, with delay compensation, on bf16 state, and all at once, as far as
// it takes them.
std::vector<OptimizerSpec> with_stages(const OptimizerSpec& spec);

// The arrays of a Case.
class Arrays {
 public:
  explicit Arrays(const Case& c);
  UpdateArgs args();
  bool update(const KernelTable& kernels, std::uint64_t step);
  // Parameters, state and wire, one after the other.
  std::vector<std::byte> results() const;
  bool guards_intact() const;

  // Values as floats, gradients decoded.
  std::vector<float> parameters();
  std::vector<float> state(std::uint32_t plane);
  std::vector<std::vector<float>> present_gradients();
  Array& wire() { return wire_; }

 private:
  Case case_;
  std::vector<Array> gradients_;
  std::vector<const void*> pointers_;
  Array parameters_;
  std::vector<Array> state_;
  Array wire_;
};

// Distance in units of float32 spacing at `expected`; 0 for two NaNs or equal infinities.
double ulps(float actual, double expected);

}  // namespace penstock::test
