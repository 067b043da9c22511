// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The sending half of one connection without its socket: posts wait here until they are sent,
// acknowledged and retired. Frames of many posts are gathered into one batch of iovecs that point
// at the headers in the ring and at the lent bytes; nothing is copied.
//
//      retired ≤ acknowledged ≤ sent ≤ posted        (sequence numbers, from 1)
//
// Beside the posts travel single control frames and responses to the peer's reads; a batch holds
// control frames first, then either posts or one response.
// Thread: the endpoint's. No allocation after construction but in set_peer_depth().

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "transport/api/types.h"
#include "transport/tcp/frame.h"

namespace penstock::tcp {

class Sender {
 public:
  explicit Sender(std::uint32_t depth);

  struct Post {
    FrameHeader header;
    std::span<std::byte> local;  // payload, or where a read lands
    std::uint64_t tag = 0;
    Opcode opcode{};
    bool landed = false;        // kRead: the response is in place
    std::uint64_t lent_to = 0;  // the zero-copy call up to which the kernel may read it
  };

  std::uint32_t free() const { return depth_ - static_cast<std::uint32_t>(posted_ - retired_); }
  // `post.header` needs its type, target and immediate; the rest is filled in. free() > 0.
  void push(const Post& post);

  // The oldest outstanding post and whether it is done; null when there is none.
  const Post* oldest() const { return retired_ < posted_ ? &post_at(retired_ + 1) : nullptr; }
  bool oldest_done() const;
  void retire_oldest() { ++retired_; }
  // The oldest read whose response has not landed; null when none.
  Post* awaited_read();
  void read_landed();
  // The peer says it applied everything up to `sequence`. False if that was never sent.
  [[nodiscard]] bool acknowledge(std::uint64_t sequence);

  // One frame of its own. False when too many are queued already.
  bool push_control(const FrameHeader& header, const Token* token = nullptr);

  // Makes room for the responses to as many reads as the peer may have outstanding. Once.
  void set_peer_depth(std::uint32_t depth);
  struct Response {
    FrameHeader header;
    std::uint64_t key = 0;
    std::span<std::byte> bytes;
  };
  // False when the peer asks for more than it announced.
  [[nodiscard]] bool push_response(const Response& response);

  // What to send next: the rest of the batch under way, or a new one whose headers carry `ack`.
  // Empty when there is nothing to send.
  std::span<iovec> batch(std::uint64_t ack);
  // `bytes` of the batch were taken by the socket, the kernel reading the posts in place until
  // release(`call`). Returns how many frames they ended.
  std::size_t advance(std::size_t bytes, std::uint64_t call = 0);
  // The kernel is done with what it was given up to this call.
  void release(std::uint64_t call) { released_ = call; }
  // Takes a batch back to the queues. False when some of it has left.
  [[nodiscard]] bool take_back_batch();
  // The read that the oldest waiting response answers.
  std::uint64_t oldest_response() const {
    return responses_[responses_head_ & responses_mask_].header.sequence;
  }

  bool has_outgoing() const {
    return batch_at_ < batch_end_ || controls_end_ > 0 ||
           (!last_words_ && (queued_ < posted_ || has_response()));
  }
  // From here on only the batch under way and then control frames are sent.
  void only_last_words() { last_words_ = true; }
  std::size_t batch_left() const { return batch_bytes_; }
  // The batch under way is headers in the ring and lent bytes: nothing that changes before its
  // posts are retired.
  bool batch_is_lent() const { return batch_lent_; }
  // The last ack a header in a batch carried.
  std::uint64_t announced_ack() const { return announced_ack_; }
  // The region that the batch under way reads from; 0 if it reads lent bytes only.
  std::uint64_t batch_key() const { return batch_key_; }

 private:
  // 64 frames with payload per system call: enough that 4 KiB posts cost a hundredth of one each.
  static constexpr std::size_t kBatchVectors = 128;
  // Past this a batch is long enough; a fresh one carries a fresher ack.
  static constexpr std::size_t kBatchBytes = std::size_t{1} << 20;
  static constexpr std::size_t kMaxControls = 4;
  static_assert(kBatchVectors <= 1024, "UIO_MAXIOV");
  static_assert(kBatchVectors >= kMaxControls + 2);

  enum class Ends : std::uint8_t { kNothing, kPost, kControl, kResponse };
  struct Control {
    FrameHeader header;
    Token token;
  };
  static_assert(sizeof(Control) == kHelloBytes);

  Post& post_at(std::uint64_t sequence) const { return posts_[sequence & mask_]; }
  bool has_response() const { return responses_head_ < responses_tail_; }
  void fill(std::uint64_t ack);
  void add_controls(std::uint64_t ack);
  void add_posts(std::uint64_t ack);
  void add_response(std::uint64_t ack);
  void add(void* base, std::size_t bytes, Ends ends);
  void stamp(FrameHeader& header, std::uint64_t ack);
  void end_frame(Ends ends);

  const std::uint32_t depth_;
  const std::uint64_t mask_;
  const std::unique_ptr<Post[]> posts_;
  // Sequence numbers. queued_: last one put in a batch.
  std::uint64_t posted_ = 0, queued_ = 0, sent_ = 0, acked_ = 0, retired_ = 0;
  std::uint64_t read_cursor_ = 1;
  std::uint32_t reads_awaited_ = 0;

  std::array<Control, kMaxControls> controls_{};
  std::size_t controls_end_ = 0, controls_batched_ = 0;

  std::unique_ptr<Response[]> responses_;
  std::uint64_t responses_mask_ = 0, responses_depth_ = 0, responses_head_ = 0, responses_tail_ = 0;
  bool response_turn_ = true;
  bool last_words_ = false;

  std::array<iovec, kBatchVectors> batch_{};
  std::array<Ends, kBatchVectors> ends_{};
  std::size_t batch_at_ = 0, batch_end_ = 0, batch_bytes_ = 0;
  std::uint64_t batch_key_ = 0;
  bool batch_started_ = false;
  bool batch_lent_ = false;
  std::uint64_t released_ = 0, call_ = 0;  // zero-copy calls over, and so far
  std::uint64_t announced_ack_ = 0;
};

}  // namespace penstock::tcp
