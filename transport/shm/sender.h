// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Our posts and our ring: which posts wait, which are under way, which are done, and the room in
// our segment. Thread: the endpoint's.
//
//   oldest_ ≤ next_ ≤ end_    posts: [oldest_, next_) started, [next_, end_) waiting
//   acked_ ≤ pushed_          entries of the ring: the peer consumed those below acked_
//
// A post is done when it was started completely and the peer consumed every piece and every read up
// to there. Bytes that are in place and what is in the ring need nobody: they are with the peer.
// Of a large write to memory that is not shared the peer copies a share itself: a few fetches at a
// time, so that whoever has time copies more.
// The areas of the segment are given out and come back in the order of the entries.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "transport/api/types.h"
#include "transport/shm/segment.h"

namespace penstock::shm {

class Sender {
 public:
  struct Post {
    Opcode opcode{};
    bool has_immediate = false;
    std::uint32_t immediate = 0;
    std::uint64_t tag = 0;
    std::span<std::byte> local;
    Incarnation incarnation = 0;
    std::uint64_t key = 0;
    std::uint64_t offset = 0;
    std::uint64_t moved = 0;  // bytes copied, or handed to the peer in pieces
    std::uint64_t until = 0;  // done when this many entries were consumed; never decreases
  };

  explicit Sender(std::uint32_t depth);

  std::uint32_t free() const { return depth_ - static_cast<std::uint32_t>(end_ - oldest_); }
  void push(const Post& post) { posts_[end_++ & mask_] = post; }  // there is room

  // The first post that is not started completely, or null.
  Post* next() { return next_ == end_ ? nullptr : &posts_[next_ & mask_]; }
  bool waiting() const { return next_ != end_; }
  void started() { posts_[next_++ & mask_].until = needed_; }
  const Post* oldest() const { return oldest_ == end_ ? nullptr : &posts_[oldest_ & mask_]; }
  bool oldest_done() const { return oldest_ != next_ && posts_[oldest_ & mask_].until <= acked_; }
  void retire_oldest();

  // An entry for the next `length` bytes of `post`, as a message, a piece, a read or a fetch. False
  // when the ring or the area is full.
  bool push_entry(const Segment& own, Post& post, EntryKind kind, std::size_t length);

  // The peer has consumed that many entries; takes what it answered. False when it cannot have.
  bool acknowledge(std::uint64_t consumed, const Segment& peer);

  // The peer has few enough fetches to do.
  bool may_fetch() const { return fetches_[0] <= acked_; }
  // Everything that was started is done.
  bool settled() const { return needed_ <= acked_; }
  std::uint64_t pushed() const { return pushed_; }
  std::uint64_t acked() const { return acked_; }

 private:
  struct Record {  // of an entry
    std::uint64_t area_end = 0;
    std::byte* into = nullptr;  // a read's local bytes
    std::uint64_t position = 0;
    std::size_t length = 0;
  };
  bool reserve(std::size_t length, std::uint64_t& position);

  const std::uint32_t depth_;
  const std::uint64_t mask_;
  std::vector<Post> posts_;
  std::vector<Record> records_;
  std::uint64_t oldest_ = 0, next_ = 0, end_ = 0;
  std::uint64_t acked_ = 0, pushed_ = 0;
  std::uint64_t needed_ = 0;                     // behind the last piece, read or fetch
  std::array<std::uint64_t, 2> fetches_{};       // behind the last ones
  std::uint64_t area_begin_ = 0, area_end_ = 0;  // in use; modulo kAreaBytes
};

}  // namespace penstock::shm
