// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/rows_check.h"

#include <cuda_runtime.h>

#include <bit>
#include <cstring>
#include <vector>

#include "kernels/cuda/host_rows.h"
#include "kernels/cuda/rows_launch.h"

namespace penstock::cuda {
namespace {

constexpr std::uint64_t kRows = 300;

// Memory that the GPU and the CPU both see.
class Managed {
 public:
  Managed(const std::vector<char>& bytes, std::size_t shift) : size_(bytes.size()) {
    if (cudaMallocManaged(&memory_, size_ + shift + 1) != cudaSuccess) return;
    start_ = static_cast<char*>(memory_) + shift;
    std::memcpy(start_, bytes.data(), size_);
  }
  Managed(Managed&& other) noexcept
      : memory_(other.memory_), start_(other.start_), size_(other.size_) {
    other.memory_ = nullptr;
  }
  Managed& operator=(Managed&&) = delete;
  ~Managed() { cudaFree(memory_); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(start_);
  }
  std::size_t size() const { return size_; }

 private:
  void* memory_ = nullptr;
  char* start_ = nullptr;
  std::size_t size_;
};

std::uint64_t mix(std::uint64_t& state) {  // splitmix64, Steele et al. 2014
  std::uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// In [−1, 1), or any bits at all.
std::vector<char> random_floats(std::size_t count, bool any_bits, std::uint64_t seed) {
  std::vector<char> bytes(count * sizeof(float));
  for (std::size_t i = 0; i < count; ++i) {
    const auto word = static_cast<std::uint32_t>(mix(seed));
    const float unit = static_cast<float>(static_cast<std::int32_t>(word)) * 0x1p-31F;
    const float value = any_bits ? std::bit_cast<float>(word) : unit;
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(value));
  }
  return bytes;
}

RowCoefficients coefficients_of(RowRule rule, UpdateRule elements) {
  RowCoefficients c;
  c.rule = rule;
  c.elements.rule = elements;
  c.elements.clip = 0.3F;
  c.elements.l2 = 0.02F;
  c.elements.step_gain = -0.001F;
  c.elements.momentum = 0.9F;
  c.elements.beta1 = 0.9F;
  c.elements.one_minus_beta1 = 0.1F;
  c.elements.beta2 = 0.999F;
  c.elements.one_minus_beta2 = 0.001F;
  c.elements.epsilon = 1e-8F;
  c.elements.inverse_rate = 10;
  c.elements.lambda1 = 0.01F;
  c.elements.minus_offset = -10;
  c.initial_square = 3;
  c.upper = 0.9F;
  return c;
}

// The arrays of one table with its gradients: parameters, state.
struct Table {
  std::vector<Managed> arrays;
  RowUpdateArgs args;

  Table(const RowCoefficients& c, std::size_t width, bool any_bits, std::size_t shift) {
    const RowPlanes planes = row_planes(c);
    args.table.rows = kRows;
    args.table.width = width;
    args.scale = 0.5F;
    args.table.parameters = {add(random_floats(kRows * width, any_bits, 1), shift), width};
    for (std::uint32_t s = 0; s < planes.elements + planes.scalars; ++s) {
      const std::size_t stride = s < planes.elements ? width : 1;
      args.table.state[s] = {add(random_floats(kRows * stride, any_bits, 2 + s), shift), stride};
    }
  }
  float* add(const std::vector<char>& bytes, std::size_t shift) {
    return arrays.emplace_back(bytes, shift).as<float>();
  }
};

void check_table(RowsEquality& total, const RowCoefficients& c, std::size_t width, bool any_bits) {
  const std::size_t shift = width % 2 == 0 ? 0 : 4;
  std::vector<char> rows;
  for (std::uint32_t row = 1; row < kRows + 9; row += 3)  // the last ones are not in the table
    rows.insert(rows.end(), reinterpret_cast<char*>(&row), reinterpret_cast<char*>(&row + 1));
  const Managed numbers(rows, 0);
  const std::size_t count = rows.size() / sizeof(std::uint32_t);
  const Managed gradients(random_floats(count * width, any_bits, 9), shift);
  Table device(c, width, any_bits, shift), host(c, width, any_bits, shift);
  for (Table* table : {&device, &host}) {
    table->args.rows = numbers.as<std::uint32_t>();
    table->args.gradients = gradients.as<float>();
    table->args.count = count;
  }
  cudaError_t error = launch_rows(c, device.args, nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error != cudaSuccess) {
    total.error = cudaGetErrorString(error);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) rows_on_host(c, host.args, i, {3, 1, 0, 2});
  ++total.launches;
  for (std::size_t a = 0; a < device.arrays.size(); ++a)
    for (std::size_t i = 0; i < device.arrays[a].size(); ++i)
      total.differing_bytes += device.arrays[a].as<char>()[i] != host.arrays[a].as<char>()[i];
}

}  // namespace

RowsEquality check_rows_equality(bool quick) {
  RowsEquality total;
  std::vector<RowCoefficients> all;
  for (std::uint32_t rule = 0; rule < kUpdateRules; ++rule)
    all.push_back(coefficients_of(RowRule::kElements, static_cast<UpdateRule>(rule)));
  for (std::uint32_t rule = 1; rule < kRowRules; ++rule)
    all.push_back(coefficients_of(static_cast<RowRule>(rule), UpdateRule::kAdam));
  for (const RowCoefficients& c : all)
    for (std::size_t width : {1, 16, 17, 64, 1000})
      for (bool any_bits : {false, true})
        if (total.error == nullptr && (!quick || width == 17 || width == 64))
          check_table(total, c, width, any_bits);
  return total;
}

}  // namespace penstock::cuda
