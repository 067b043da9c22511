// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which parts of a stretch of bytes are free. Plain arithmetic: it touches no memory.
// Always: free ranges are not empty, do not overlap and do not touch. Thread: one.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

namespace penstock {

class FreeRanges {
 public:
  explicit FreeRanges(std::uint64_t bytes);  // all of them free

  // The lowest place with room for `bytes` (not 0), so that what is free gathers at the end.
  std::optional<std::uint64_t> take(std::uint64_t bytes);
  // What take() gave, whole or in parts. CHECKs that none of it is free already.
  void give(std::uint64_t offset, std::uint64_t bytes);

  bool all_free() const { return free_bytes_ == bytes_; }
  std::uint64_t free_bytes() const { return free_bytes_; }
  std::size_t pieces() const { return free_.size(); }

 private:
  std::uint64_t bytes_;
  std::uint64_t free_bytes_;
  std::map<std::uint64_t, std::uint64_t> free_;  // offset → bytes
};

}  // namespace penstock
