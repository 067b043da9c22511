// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <vector>

#include "kernels/cuda/check_support.h"

namespace penstock::cuda {

// The same memory on both sides: an array has one offset in it.
class Arena {
 public:
  explicit Arena(std::size_t bytes) : host_(bytes + 64), device_(bytes + 64) {
    start_ = (64 - reinterpret_cast<std::uintptr_t>(host_.data()) % 64) % 64;
  }
  char* add(std::size_t bytes, std::size_t shift) {
    char* const array = host_.data() + start_ + used_ + shift;
    used_ += (bytes + shift + 63) / 64 * 64;
    if (used_ + 64 > host_.size()) must(cudaErrorMemoryAllocation, "an arena for the check");
    return array;
  }
  template <class T>
  T* on_device(T* array) const {
    if (array == nullptr) return nullptr;
    const auto* const at = reinterpret_cast<const char*>(array);
    return reinterpret_cast<T*>(device_.get<char>() + (at - host_.data() - start_));
  }
  void to_device() { upload(device_, {host_.begin() + start_, host_.begin() + start_ + used_}); }
  std::size_t differing_bytes() const {
    std::vector<char> back(used_);
    must(cudaMemcpy(back.data(), device_.get(), used_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    std::size_t different = 0;
    for (std::size_t i = 0; i < used_; ++i) different += back[i] != host_[start_ + i];
    return different;
  }

 private:
  static void upload(const DeviceArray& to, const std::vector<char>& from) {
    penstock::cuda::upload(to, from);
  }
  std::vector<char> host_;
  DeviceArray device_;
  std::ptrdiff_t start_ = 0;
  std::size_t used_ = 0;
};

inline void fill_floats(char* to, std::uint64_t count, Flavour flavour, bool positive,
                        std::uint64_t& seed) {
  for (std::uint64_t i = 0; i < count; ++i) {
    auto bits = std::bit_cast<std::uint32_t>(value_of(flavour, mix(seed)));
    if (positive) bits &= 0x7fff'ffffU;
    std::memcpy(to + 4 * i, &bits, 4);
  }
}

}  // namespace penstock::cuda
