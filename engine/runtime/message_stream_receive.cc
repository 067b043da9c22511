// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/protocol/immediate.h"
#include "engine/protocol/messages.h"
#include "engine/runtime/message_frame.h"
#include "engine/runtime/message_stream.h"

namespace penstock {
namespace {

constexpr std::uint32_t kLowMask = kMaxSlicesPerLane - 1;  // what an immediate holds

Status broken(std::string what) { return {Code::kProtocol, std::move(what)}; }

}  // namespace

bool carries_message(const Completion& completion) {
  switch (completion.event) {
    case Event::kMessage:
      return true;
    case Event::kImmediate:
      return decode_immediate(completion.immediate).kind == SliceKind::kLanded;
    case Event::kWriteDone:
    case Event::kSendDone:
      return (completion.tag & kMessageTag) != 0;
    default:
      return false;
  }
}

Status MessageStream::on_completion(const Completion& completion) {
  if (completion.event == Event::kMessage) return on_message(completion.message);
  if (completion.event == Event::kImmediate)
    return on_landed(decode_immediate(completion.immediate).slice);
  on_done(completion);
  return {};
}

Status MessageStream::on_message(std::span<const std::byte> bytes) {
  MessageFrame frame;
  if (bytes.size() < sizeof frame) return broken("a frame that is too short");
  std::memcpy(&frame, bytes.data(), sizeof frame);
  const std::span<const std::byte> rest = bytes.subspan(sizeof frame);
  switch (frame.kind) {
    case kStart:
      return on_start(frame, rest);
    case kMore:
      return on_more(frame, rest);
    case kGrant:
      return on_grant(rest);
    default:
      return broken(fmt::format("a frame of kind {}", frame.kind));
  }
}

Status MessageStream::on_start(const MessageFrame& frame, std::span<const std::byte> rest) {
  if (frame.sequence != next_arrival_ + arriving_.size() || arriving_.size() >= kMaxArriving)
    return broken(fmt::format("message {} while {} is next", frame.sequence,
                              next_arrival_ + arriving_.size()));
  const std::size_t fixed = frame.parts * sizeof(std::uint64_t) + frame.meta_bytes;
  if (frame.parts > kMaxMessageParts || frame.meta_bytes > kMaxMessageMeta || fixed > rest.size())
    return broken("a message with impossible sizes");
  Arriving message;
  for (std::size_t i = 0; i < frame.parts; ++i) {
    std::uint64_t size = 0;
    std::memcpy(&size, rest.data() + i * sizeof size, sizeof size);
    if (size > kMaxMessageTotal - message.total) return broken("a message of impossible length");
    message.sizes.push_back(size);
    message.total += size;
  }
  const auto meta = rest.subspan(frame.parts * sizeof(std::uint64_t), frame.meta_bytes);
  message.message.meta.assign(meta.begin(), meta.end());
  message.message.parts.resize(frame.parts);
  message.large = message.total > kEagerBytes;
  arriving_.push_back(std::move(message));
  if (arriving_.back().large) return grant(frame.sequence, arriving_.back());

  Arriving& small = arriving_.back();
  const std::shared_ptr<std::byte[]> memory = std::make_shared<std::byte[]>(small.total);
  std::size_t at = 0;
  for (std::size_t i = 0; i < small.sizes.size(); ++i) {
    small.message.parts[i] = {{memory.get() + at, small.sizes[i]}, memory};
    at += small.sizes[i];
  }
  return on_more(frame, rest.subspan(fixed));
}

Status MessageStream::on_more(const MessageFrame& frame, std::span<const std::byte> bytes) {
  Arriving* const message = arriving(frame.sequence);
  if (message == nullptr || message->large || bytes.size() > message->total - message->arrived)
    return broken("bytes of a message that does not want them");
  std::uint64_t skip = message->arrived;
  message->arrived += bytes.size();
  for (const MessagePart& part : message->message.parts) {
    if (skip >= part.bytes.size()) {
      skip -= part.bytes.size();
      continue;
    }
    const std::size_t count = std::min<std::size_t>(part.bytes.size() - skip, bytes.size());
    if (count != 0) std::memcpy(part.bytes.data() + skip, bytes.data(), count);
    bytes = bytes.subspan(count);
    skip = 0;
    if (bytes.empty()) break;
  }
  message->whole = message->arrived == message->total;
  if (message->whole) deliver();
  return {};
}

// Memory for every part: the receiver's choice where it made one, else the pool's.
Status MessageStream::grant(std::uint64_t sequence, Arriving& message) {
  auto& parts = message.message.parts;
  receiver_.place_open_message(peer_, message.message.meta, message.sizes, parts);
  wire::MessageGrantT answer;
  answer.sequence = sequence;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    RemoteBuffer to;
    if (parts[i].bytes.size() == message.sizes[i] && message.sizes[i] != 0) {
      PENSTOCK_ASSIGN_OR_RETURN(RegisteredBuffer place,
                                regions_.acquire(parts[i].bytes, Access::kRemoteWrite));
      to = {place.region->describe(), place.offset};
      message.places.push_back(std::move(place));
    } else if (message.sizes[i] != 0) {
      PENSTOCK_ASSIGN_OR_RETURN(LandingPool::Landing landing, pool_->acquire(message.sizes[i]));
      to = {landing.region->describe(), 0};
      parts[i] = {landing.bytes, landing.owner};
    }
    answer.parts.push_back(to_wire(to));
  }
  const std::vector<std::byte> body = encode_body(std::move(answer));
  const MessageFrame frame{kGrant, 0, 0, 0, sequence};
  std::vector<std::byte> bytes(sizeof frame + body.size());
  if (bytes.size() > frame_bytes_) return {Code::kExhausted, "a grant does not fit a frame"};
  std::memcpy(bytes.data(), &frame, sizeof frame);
  std::memcpy(bytes.data() + sizeof frame, body.data(), body.size());
  grants_.push_back(std::move(bytes));
  return {};
}

Status MessageStream::on_grant(std::span<const std::byte> bytes) {
  PENSTOCK_ASSIGN_OR_RETURN(const wire::MessageT message, decode(bytes));
  const wire::MessageGrantT* const grant = message.body.AsMessageGrant();
  if (grant == nullptr) return broken("a grant that is none");
  Outgoing* const out = find(static_cast<std::uint32_t>(grant->sequence & kLowMask));
  PENSTOCK_ASSIGN_OR_RETURN(auto granted, from_wire(grant->parts));
  if (out == nullptr || out->sequence != grant->sequence || out->stage != Stage::kOffered ||
      granted.size() != out->prepared.message.parts.size())
    return broken("a grant for a message that was not offered");
  out->granted = std::move(granted);
  out->stage = Stage::kGranted;
  out->cursor = 0;
  return {};
}

Status MessageStream::on_landed(std::uint32_t sequence_low) {
  const std::uint64_t ahead = (sequence_low - next_arrival_) & kLowMask;
  if (ahead >= arriving_.size() || !arriving_[ahead].large || arriving_[ahead].whole)
    return broken("a message landed that was not granted");
  arriving_[ahead].whole = true;
  deliver();
  return {};
}

MessageStream::Arriving* MessageStream::arriving(std::uint64_t sequence) {
  const std::uint64_t ahead = sequence - next_arrival_;
  return ahead < arriving_.size() ? &arriving_[ahead] : nullptr;
}

void MessageStream::deliver() {
  while (!arriving_.empty() && arriving_.front().whole) {
    OpenMessage message = std::move(arriving_.front().message);
    arriving_.pop_front();
    ++next_arrival_;
    receiver_.on_open_message(peer_, std::move(message));
  }
}

}  // namespace penstock
