// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the parts of gpu_check share.

#include <cuda_runtime.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace penstock::cuda {

inline void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("{\"error\": \"%s: %s\"}\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Device memory, `shift` bytes from an aligned start.
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t bytes, std::size_t shift = 0) : shift_(shift) {
    must(cudaMalloc(&memory_, bytes + shift + 1), "cudaMalloc");
  }
  DeviceArray(DeviceArray&& other) noexcept : memory_(other.memory_), shift_(other.shift_) {
    other.memory_ = nullptr;
  }
  DeviceArray& operator=(DeviceArray&&) = delete;
  ~DeviceArray() { cudaFree(memory_); }
  template <class T = void>
  T* get() const {
    return reinterpret_cast<T*>(static_cast<char*>(memory_) + shift_);
  }

 private:
  void* memory_ = nullptr;
  std::size_t shift_;
};

template <class T>
void upload(const DeviceArray& to, const std::vector<T>& from) {
  if (from.empty()) return;
  must(cudaMemcpy(to.get(), from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
       "cudaMemcpy");
}

inline std::uint64_t mix(std::uint64_t& state) {  // splitmix64, Steele et al. 2014
  std::uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

enum class Flavour { kOrdinary, kSubnormal, kExtreme, kAnyBits };
inline constexpr Flavour kFlavours[] = {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme,
                                        Flavour::kAnyBits};

inline float value_of(Flavour flavour, std::uint64_t random) {
  const auto bits = static_cast<std::uint32_t>(random);
  switch (flavour) {
    case Flavour::kOrdinary:
      return static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-31F;
    case Flavour::kSubnormal:
      return std::bit_cast<float>(bits & 0x807f'ffffU);
    case Flavour::kExtreme:
      return std::bit_cast<float>((bits & 0x80ff'ffffU) | 0x7f00'0000U);
    case Flavour::kAnyBits:
      return std::bit_cast<float>(bits);
  }
  return 0;
}

// Median seconds of nine runs of `work` on the default stream, after one that warms up.
template <class Work>
double seconds(const Work& work) {
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin), "cudaEventCreate");
  must(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<double> times;
  for (int run = -1; run < 9; ++run) {
    must(cudaEventRecord(begin), "cudaEventRecord");
    work();
    must(cudaEventRecord(end), "cudaEventRecord");
    must(cudaEventSynchronize(end), "cudaEventSynchronize");
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    if (run >= 0) times.push_back(milliseconds / 1000);
  }
  must(cudaEventDestroy(begin), "cudaEventDestroy");
  must(cudaEventDestroy(end), "cudaEventDestroy");
  std::nth_element(times.begin(), times.begin() + 4, times.end());
  return times[4];
}

}  // namespace penstock::cuda
