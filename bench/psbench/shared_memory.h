// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "transport/base/status.h"

namespace penstock::psbench {

// Zeroed memory that the children forked later share with this process. Pages cost nothing until
// they are touched; it has no name, so nothing is left behind.
class SharedMemory {
 public:
  static Result<SharedMemory> create(std::size_t bytes) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_ANONYMOUS | MAP_SHARED | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return Status::system("cannot map shared memory", errno);
    return SharedMemory(static_cast<std::byte*>(at), bytes);
  }

  SharedMemory(SharedMemory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), bytes_(other.bytes_) {}
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory() {
    if (at_ != nullptr) munmap(at_, bytes_);
  }

  // Makes a T at the start; it is never destroyed, so it must not need that.
  template <class T>
  T* construct() const {
    static_assert(std::is_trivially_destructible_v<T>);
    CHECK(sizeof(T) <= bytes_);
    return new (at_) T();
  }
  // What lies there: zero bytes at first, so T must be fine with that.
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(at_);
  }

 private:
  SharedMemory(std::byte* at, std::size_t bytes) : at_(at), bytes_(bytes) {}

  std::byte* at_;
  std::size_t bytes_;
};

}  // namespace penstock::psbench
