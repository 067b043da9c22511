// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Memory that several processes map: a memfd whose size can never change (sealed), so that touching
// a mapping never faults for lack of it. Nothing of it is in a file system; it is gone with its
// last mapping and descriptor.

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <utility>

#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace penstock::shm {

// A range of mapped memory, unmapped at the end. Empty when moved from.
class Mapping {
 public:
  Mapping() = default;
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  std::span<std::byte> bytes() const { return bytes_; }
  template <class T>
  T* as(std::size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(bytes_.data() + byte_offset);
  }

 private:
  std::span<std::byte> bytes_;
};

struct SharedMemory {
  UniqueFd fd;
  Mapping mapping;  // read and write
};

// What those who get the descriptor may do.
enum class Others : std::uint8_t { kRead, kReadAndWrite };

// `bytes` zeroed bytes, rounded up to whole pages; taken when first touched. kExhausted, kSystem.
Result<SharedMemory> create_shared(std::size_t bytes, Others others);

// The same on pages of the pool (huge_pages.h), if `bytes` are whole such pages and it has them
// all.
Result<SharedMemory> create_shared_on_huge_pages(std::size_t bytes, Others others);

// Maps `bytes` of what a peer sent. kProtocol, saying why, unless it is a memfd of at least that
// size whose size is sealed; kSystem when the system refuses.
Result<Mapping> map_shared(int fd, std::size_t bytes, bool writable);

// Another descriptor of the same memory that cannot map it writable.
Result<UniqueFd> read_only(int fd);

}  // namespace penstock::shm
