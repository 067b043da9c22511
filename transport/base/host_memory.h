// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "transport/base/status.h"

namespace penstock {

// Anonymous zeroed memory in whole pages, on transparent huge pages where the system gives them.
// Pages are taken when first touched: by the lane that owns them, hence on its NUMA node.
class HostMemory {
 public:
  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept { swap(other); }
  HostMemory& operator=(HostMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~HostMemory();

  // kExhausted when the system refuses. 0 bytes is an empty block.
  static Result<HostMemory> allocate(std::size_t bytes);

  std::span<std::byte> bytes() const { return bytes_; }
  template <class T>
  T* as(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(bytes_.data() + byte_offset);
  }

 private:
  void swap(HostMemory& other) {
    std::swap(mapping_, other.mapping_);
    std::swap(bytes_, other.bytes_);
  }

  std::span<std::byte> mapping_;  // what the system gave; may be up to a huge page larger
  std::span<std::byte> bytes_;
};

}  // namespace penstock
