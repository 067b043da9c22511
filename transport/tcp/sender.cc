// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/sender.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "transport/base/check.h"

namespace penstock::tcp {

Sender::Sender(std::uint32_t depth)
    : depth_(depth),
      mask_(std::bit_ceil(std::uint64_t{depth}) - 1),
      posts_(std::make_unique<Post[]>(mask_ + 1)) {}

void Sender::push(const Post& post) {
  CHECK(free() > 0);
  ++posted_;
  Post& slot = post_at(posted_);
  slot = post;
  slot.landed = false;
  slot.lent_to = 0;
  slot.header.sequence = posted_;
  slot.header.length = post.local.size();
  if (post.opcode == Opcode::kRead) ++reads_awaited_;
}

bool Sender::oldest_done() const {
  if (retired_ >= acked_) return false;
  const Post& post = post_at(retired_ + 1);
  return post.lent_to <= released_ && (post.opcode != Opcode::kRead || post.landed);
}

Sender::Post* Sender::awaited_read() {
  if (reads_awaited_ == 0) return nullptr;
  read_cursor_ = std::max(read_cursor_, retired_ + 1);
  while (post_at(read_cursor_).opcode != Opcode::kRead || post_at(read_cursor_).landed)
    ++read_cursor_;
  return &post_at(read_cursor_);
}

void Sender::read_landed() {
  awaited_read()->landed = true;
  --reads_awaited_;
}

bool Sender::acknowledge(std::uint64_t sequence) {
  if (sequence > sent_) return false;
  acked_ = std::max(acked_, sequence);
  return true;
}

bool Sender::push_control(const FrameHeader& header, const Token* token) {
  if (controls_end_ == kMaxControls) return false;
  Control& control = controls_[controls_end_++];
  control.header = header;
  control.header.length = token != nullptr ? sizeof(Token) : 0;
  if (token != nullptr) control.token = *token;
  return true;
}

void Sender::set_peer_depth(std::uint32_t depth) {
  CHECK(responses_ == nullptr && depth > 0);
  responses_depth_ = depth;
  responses_mask_ = std::bit_ceil(std::uint64_t{depth}) - 1;
  responses_ = std::make_unique<Response[]>(responses_mask_ + 1);
}

bool Sender::push_response(const Response& response) {
  if (responses_tail_ - responses_head_ >= responses_depth_) return false;
  responses_[responses_tail_ & responses_mask_] = response;
  ++responses_tail_;
  return true;
}

std::span<iovec> Sender::batch(std::uint64_t ack) {
  if (batch_at_ == batch_end_) fill(ack);
  return {batch_.data() + batch_at_, batch_end_ - batch_at_};
}

void Sender::fill(std::uint64_t ack) {
  batch_at_ = batch_end_ = batch_bytes_ = 0;
  batch_key_ = 0;
  batch_started_ = batch_lent_ = false;
  add_controls(ack);
  if (last_words_) return;
  const bool respond = has_response() && (response_turn_ || queued_ == posted_);
  if (respond)
    add_response(ack);
  else
    add_posts(ack);
  response_turn_ = !respond;
  batch_lent_ = !respond && controls_batched_ == 0;
}

void Sender::add_controls(std::uint64_t ack) {
  for (std::size_t i = 0; i < controls_end_; ++i) {
    Control& control = controls_[i];
    // The handshake comes before any acknowledgement and has no room for one.
    const bool handshake =
        control.header.type == FrameType::kHello || control.header.type == FrameType::kWelcome;
    stamp(control.header, handshake ? 0 : ack);
    add(&control, kHeaderBytes + control.header.length, Ends::kControl);
  }
  controls_batched_ = controls_end_;
}

void Sender::add_posts(std::uint64_t ack) {
  while (queued_ < posted_ && batch_end_ + 2 <= kBatchVectors && batch_bytes_ < kBatchBytes) {
    Post& post = post_at(++queued_);
    stamp(post.header, ack);
    const bool payload = has_payload(post.header.type) && !post.local.empty();
    add(&post.header, kHeaderBytes, payload ? Ends::kNothing : Ends::kPost);
    if (payload) add(post.local.data(), post.local.size(), Ends::kPost);
  }
}

void Sender::add_response(std::uint64_t ack) {
  Response& response = responses_[responses_head_ & responses_mask_];
  stamp(response.header, ack);
  const bool payload = !response.bytes.empty();
  add(&response.header, kHeaderBytes, payload ? Ends::kNothing : Ends::kResponse);
  if (!payload) return;
  add(response.bytes.data(), response.bytes.size(), Ends::kResponse);
  batch_key_ = response.key;
}

void Sender::add(void* base, std::size_t bytes, Ends ends) {
  batch_[batch_end_] = {base, bytes};
  ends_[batch_end_] = ends;
  ++batch_end_;
  batch_bytes_ += bytes;
}

void Sender::stamp(FrameHeader& header, std::uint64_t ack) {
  header.ack = ack;
  announced_ack_ = ack;
  seal(header);
}

bool Sender::take_back_batch() {
  CHECK(batch_key_ != 0, "only a batch with a response can be taken back");
  if (batch_started_) return false;
  batch_at_ = batch_end_ = batch_bytes_ = 0;
  batch_key_ = 0;
  return true;
}

std::size_t Sender::advance(std::size_t bytes, std::uint64_t call) {
  call_ = call;
  std::size_t frames = 0;
  batch_started_ = batch_started_ || bytes > 0;
  while (bytes > 0) {
    CHECK(batch_at_ < batch_end_);
    iovec& part = batch_[batch_at_];
    const std::size_t taken = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<std::byte*>(part.iov_base) + taken;
    part.iov_len -= taken;
    bytes -= taken;
    batch_bytes_ -= taken;
    if (part.iov_len > 0) break;
    frames += ends_[batch_at_] != Ends::kNothing;
    end_frame(ends_[batch_at_++]);
  }
  return frames;
}

void Sender::end_frame(Ends ends) {
  switch (ends) {
    case Ends::kNothing:
      return;
    case Ends::kPost:
      post_at(++sent_).lent_to = call_;
      return;
    case Ends::kResponse:
      ++responses_head_;
      return;
    case Ends::kControl:
      // All of them stand at the front of the batch; those pushed meanwhile move up.
      if (--controls_batched_ > 0) return;
      std::copy(controls_.begin() + static_cast<std::ptrdiff_t>(batch_at_),
                controls_.begin() + static_cast<std::ptrdiff_t>(controls_end_), controls_.begin());
      controls_end_ -= batch_at_;
      return;
  }
}

}  // namespace penstock::tcp
