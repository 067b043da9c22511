// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/tcp/receiver.h"

#include <algorithm>
#include <cstring>

namespace penstock::tcp {
namespace {

// Small frames are taken in by the dozen per read and copied once from here; a 4 KiB copy costs a
// tenth of a system call.
constexpr std::size_t kStagingBytes = std::size_t{64} << 10;
// Above this payload the copy would cost more than the reads it saves: read ahead only as far as
// the next headers.
constexpr std::size_t kDirectPayloadBytes = std::size_t{16} << 10;
constexpr std::size_t kDirectReadAheadBytes = 4 * kHeaderBytes;
// Sixteen of the longest messages between two polls; then the peer waits.
constexpr std::size_t kMessageRoomBytes = std::size_t{16} * kMaxMessageBytes;
static_assert(kStagingBytes >= kDirectReadAheadBytes + kHeaderBytes);

std::size_t read_ahead(std::uint64_t payload) {
  return payload >= kDirectPayloadBytes ? kDirectReadAheadBytes : kStagingBytes - kHeaderBytes;
}

}  // namespace

Receiver::Receiver(const RegionTable& regions, PeerScope scope, Side side)
    : regions_(regions),
      scope_(scope),
      staging_(std::make_unique_for_overwrite<std::byte[]>(kStagingBytes)),
      messages_(std::make_unique_for_overwrite<std::byte[]>(kMessageRoomBytes)),
      awaits_welcome_(side == Side::kConnector) {}

Arrival Receiver::next() {
  if (!failed() && !in_payload_) read_header();
  if (!failed() && in_payload_) take_staged_payload();
  if (failed()) {
    const Arrival failure = failure_;
    if (failure_.kind == Arrival::Kind::kMessageRoom) failure_ = {};
    return failure;
  }
  if (in_payload_ && payload_left_ == 0) return finish_frame();
  return {};
}

void Receiver::read_header() {
  if (staged() < kHeaderBytes) return;
  FrameHeader header;
  const char* fault = parse_header({staging_.get() + staged_begin_, kHeaderBytes}, header);
  if (fault == nullptr) fault = check_order(header);
  if (fault != nullptr) return fail(Arrival::Kind::kGarbage, Code::kProtocol, fault);
  header_ = header;
  open_frame();
  if (failure_.kind == Arrival::Kind::kMessageRoom) return;  // looked at again later
  staged_begin_ += kHeaderBytes;
  acked_ = header.ack;
}

const char* Receiver::check_order(const FrameHeader& header) const {
  if (awaits_welcome_ && header.type != FrameType::kWelcome && header.type != FrameType::kError)
    return "a frame before the welcome";
  if (!awaits_welcome_ && header.type == FrameType::kWelcome) return "an unexpected welcome";
  if (header.type == FrameType::kHello) return "an unexpected hello";
  if (header.ack < acked_) return "an acknowledgement that takes back an earlier one";
  if (is_counted(header.type) && header.sequence != applied_ + 1)
    return "a sequence number out of order";
  return nullptr;
}

void Receiver::open_frame() {
  in_payload_ = true;
  target_ = nullptr;
  payload_left_ = has_payload(header_.type) ? header_.length : 0;
  switch (header_.type) {
    case FrameType::kWrite:
      return open_write();
    case FrameType::kReadResponse:
      return open_read_response();
    case FrameType::kSend:
      return open_message();
    case FrameType::kWelcome:
      awaits_welcome_ = false;
      return;
    case FrameType::kHello:
    case FrameType::kReadRequest:
    case FrameType::kAck:
    case FrameType::kError:
    case FrameType::kClose:
      return;
  }
}

void Receiver::open_write() {
  if (header_.length == 0) return;  // an immediate alone touches no region
  const RegionTable::Request request{.incarnation = header_.incarnation,
                                     .key = header_.key,
                                     .offset = header_.offset,
                                     .length = header_.length,
                                     .wanted = Access::kRemoteWrite,
                                     .scope = scope_};
  const RegionTable::Claim claim = regions_.resolve(request);
  if (claim.code != Code::kOk)
    return fail(Arrival::Kind::kRefused, claim.code, "a write was refused");
  target_ = claim.bytes.data();
}

void Receiver::open_read_response() {
  if (read_sequence_ == 0 || header_.sequence != read_sequence_ ||
      header_.length != read_target_.size())
    return fail(Arrival::Kind::kGarbage, Code::kProtocol, "a read response nobody asked for");
  target_ = read_target_.data();
  read_sequence_ = 0;
}

void Receiver::open_message() {
  if (header_.length > kMessageRoomBytes - messages_end_) {
    in_payload_ = false;
    return fail(Arrival::Kind::kMessageRoom, Code::kExhausted, "no room for a message");
  }
  target_ = messages_.get() + messages_end_;
}

void Receiver::take_staged_payload() {
  const std::size_t bytes = std::min<std::uint64_t>(staged(), payload_left_);
  if (bytes == 0 || !hold_target()) return;
  std::memcpy(target_, staging_.get() + staged_begin_, bytes);
  guard_.release();
  staged_begin_ += bytes;
  target_ += bytes;
  payload_left_ -= bytes;
}

bool Receiver::hold_target() {
  if (header_.type != FrameType::kWrite) return true;
  guard_ = regions_.enter(header_.key);
  if (guard_) return true;
  fail(Arrival::Kind::kRefused, Code::kStale, "a write into a region that went away");
  return false;
}

Arrival Receiver::finish_frame() {
  in_payload_ = false;
  last_payload_ = has_payload(header_.type) ? header_.length : last_payload_;
  if (is_counted(header_.type)) applied_ = header_.sequence;
  Arrival arrival{.kind = Arrival::Kind::kFrame, .header = header_};
  if (header_.type == FrameType::kSend) {
    arrival.message = {messages_.get() + messages_end_, header_.length};
    messages_end_ += header_.length;
  }
  return arrival;
}

int Receiver::prepare(iovec (&space)[2], std::size_t limit) {
  if (failed() || limit == 0) return 0;
  if (!in_payload_) {
    if (staged() >= kHeaderBytes) return 0;
    std::memmove(staging_.get(), staging_.get() + staged_begin_, staged());
    staged_end_ = staged();
    staged_begin_ = 0;
    space[0] = {staging_.get() + staged_end_, std::min(limit, read_ahead(last_payload_))};
    return 1;
  }
  if (payload_left_ == 0 || staged() > 0 || !hold_target()) return 0;
  staged_begin_ = staged_end_ = 0;
  space[0] = {target_, std::min<std::uint64_t>(limit, payload_left_)};
  space[1] = {staging_.get(), std::min(limit - space[0].iov_len, read_ahead(header_.length))};
  return space[1].iov_len > 0 ? 2 : 1;
}

void Receiver::commit(std::size_t bytes) {
  guard_.release();
  if (in_payload_) {
    const std::size_t landed = std::min<std::uint64_t>(bytes, payload_left_);
    target_ += landed;
    payload_left_ -= landed;
    bytes -= landed;
  }
  staged_end_ += bytes;
  CHECK(staged_end_ <= kStagingBytes);
}

void Receiver::expect_read(std::uint64_t sequence, std::span<std::byte> target) {
  read_sequence_ = sequence;
  read_target_ = target;
}

void Receiver::release_messages() {
  if (in_payload_ && header_.type == FrameType::kSend) {
    // The message under way moves to the front; what is behind it was not yet handed out.
    const std::uint64_t landed = header_.length - payload_left_;
    std::memmove(messages_.get(), messages_.get() + messages_end_, landed);
    target_ = messages_.get() + landed;
  }
  messages_end_ = 0;
}

void Receiver::fail(Arrival::Kind kind, Code code, const char* what) {
  failure_ = {.kind = kind, .code = code, .what = what, .header = header_};
}

}  // namespace penstock::tcp
