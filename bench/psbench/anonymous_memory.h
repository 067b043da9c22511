// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "transport/base/status.h"

namespace penstock::psbench {

// Zeroed pages of our own, or shared with the children forked later. Given back with the object.
class AnonymousMemory {
 public:
  static Result<AnonymousMemory> create(std::size_t bytes, bool shared = false) {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_ANONYMOUS | (shared ? MAP_SHARED : MAP_PRIVATE), -1, 0);
    if (at == MAP_FAILED) return Status::system("cannot map memory", errno);
    if (!shared) madvise(at, bytes, MADV_HUGEPAGE);  // a wish: fewer TLB misses where granted
    return AnonymousMemory(static_cast<std::byte*>(at), bytes);
  }

  AnonymousMemory(AnonymousMemory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), bytes_(other.bytes_) {}
  AnonymousMemory& operator=(AnonymousMemory&&) = delete;
  ~AnonymousMemory() {
    if (at_ != nullptr) munmap(at_, bytes_);
  }

  std::span<std::byte> bytes() const { return {at_, bytes_}; }

 private:
  AnonymousMemory(std::byte* at, std::size_t bytes) : at_(at), bytes_(bytes) {}

  std::byte* at_;
  std::size_t bytes_;
};

}  // namespace penstock::psbench
