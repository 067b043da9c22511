// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <span>
#include <vector>

#include "transport/control/frame.h"

namespace penstock::control {

// Framed bytes that wait for the socket. Small frames share a block, so that they leave in one TLS
// record; a large frame is a block of its own. The last small block is kept when it is empty:
// steady small traffic does not allocate. Thread: one.
class SendQueue {
 public:
  void push(std::span<const std::byte> body) {
    const FrameHeader header = encode_frame_header(body.size());
    const std::size_t needed = header.size() + body.size();
    if (blocks_.empty() || blocks_.back().capacity() - blocks_.back().size() < needed) {
      if (empty()) blocks_.clear();  // the kept block, or it would be an empty front
      blocks_.emplace_back().reserve(std::max(needed, kBlockBytes));
    }
    auto& block = blocks_.back();
    block.insert(block.end(), header.begin(), header.end());
    block.insert(block.end(), body.begin(), body.end());
    bytes_ += needed;
  }

  // The bytes to write next. A second look shows the same bytes, perhaps with more behind them,
  // until they are popped: what OpenSSL asks of a repeated write.
  std::span<const std::byte> front() const { return std::span(blocks_.front()).subspan(written_); }

  void pop(std::size_t count) {
    written_ += count;
    bytes_ -= count;
    if (written_ < blocks_.front().size()) return;
    written_ = 0;
    if (blocks_.size() == 1 && blocks_.front().capacity() <= kBlockBytes)
      blocks_.front().clear();
    else
      blocks_.pop_front();
  }

  std::size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

 private:
  static constexpr std::size_t kBlockBytes = std::size_t{16} << 10;  // the largest TLS record

  std::deque<std::vector<std::byte>> blocks_;
  std::size_t written_ = 0;  // of the first block
  std::size_t bytes_ = 0;
};

}  // namespace penstock::control
