// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/message_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/protocol/immediate.h"
#include "engine/runtime/message_frame.h"
#include "transport/base/log.h"

namespace penstock {
namespace {

constexpr std::uint32_t kLowMask = kMaxSlicesPerLane - 1;  // what an immediate and a tag hold
constexpr std::uint64_t kWriteTag = std::uint64_t{1} << 62;
constexpr std::uint64_t kWriteBytes = std::uint64_t{64} << 20;  // of one post
// A first frame with all of its meta, and a grant of all parts, fit this.
constexpr std::size_t kMinFrameBytes = 4096;

Status broken(std::string what) { return {Code::kProtocol, std::move(what)}; }

}  // namespace

Result<MessageStream::Prepared> MessageStream::prepare(RegionCache& regions,
                                                       OpenMessage&& message) {
  if (message.meta.size() > kMaxMessageMeta || message.parts.size() > kMaxMessageParts)
    return Status(
        Code::kInvalidArgument,
        fmt::format("a message of {} bytes of meta and {} parts: at most {} and {}",
                    message.meta.size(), message.parts.size(), kMaxMessageMeta, kMaxMessageParts));
  Prepared prepared;
  for (const MessagePart& part : message.parts) prepared.total += part.bytes.size();
  if (prepared.total > kMaxMessageTotal)
    return Status(Code::kInvalidArgument, fmt::format("a message of {} bytes: at most {}",
                                                      prepared.total, kMaxMessageTotal));
  if (prepared.total > kEagerBytes)
    for (const MessagePart& part : message.parts) {
      RegisteredBuffer source;
      if (!part.bytes.empty()) {
        PENSTOCK_ASSIGN_OR_RETURN(source, regions.acquire(part.bytes, Access::kLocal));
      }
      prepared.sources.push_back(std::move(source));
    }
  prepared.message = std::move(message);
  return prepared;
}

MessageStream::MessageStream(Device& device, RegionCache& regions, PeerScope scope, Rank peer,
                             MessageReceiver& receiver)
    : device_(device),
      regions_(regions),
      scope_(scope),
      peer_(peer),
      receiver_(receiver),
      frame_bytes_(std::min<std::size_t>(device.capabilities().max_message_bytes, kMaxFrameBytes)),
      pool_(std::make_shared<LandingPool>(device, scope)) {}

MessageStream::~MessageStream() { pool_->close(); }

Status MessageStream::open() {
  if (frames_ != nullptr) return {};
  if (frame_bytes_ < kMinFrameBytes)
    return {Code::kUnsupported,
            fmt::format("open messages need frames of {} bytes; this device sends up to {}",
                        kMinFrameBytes, frame_bytes_)};
  PENSTOCK_ASSIGN_OR_RETURN(
      frames_, device_.allocate_memory(kFrames * frame_bytes_, Access::kLocal, scope_));
  for (std::uint32_t i = 0; i < kFrames; ++i) free_frames_.push_back(kFrames - 1 - i);
  return {};
}

void MessageStream::send(Prepared&& prepared) {
  const auto later = [](std::int32_t priority, const Prepared& other) {
    return priority > other.message.priority;
  };
  const auto at =
      waiting_.empty() || waiting_.back().message.priority >= prepared.message.priority
          ? waiting_.end()
          : std::upper_bound(waiting_.begin(), waiting_.end(), prepared.message.priority, later);
  waiting_.insert(at, std::move(prepared));
}

// ---- connections --------------------------------------------------------------------------------

Status MessageStream::connected(Endpoint& endpoint, std::uint64_t peer_expects) {
  const std::uint64_t first = next_sequence_ - under_way_.size();
  if (peer_expects < first || peer_expects > next_sequence_)
    return broken(fmt::format("it expects message {}; {} to {} are under way", peer_expects, first,
                              next_sequence_));
  under_way_.erase(under_way_.begin(),
                   under_way_.begin() + static_cast<std::ptrdiff_t>(peer_expects - first));
  endpoint_ = &endpoint;
  return {};
}

void MessageStream::disconnected() {
  endpoint_ = nullptr;
  if (frames_ != nullptr) {
    free_frames_.clear();
    for (std::uint32_t i = 0; i < kFrames; ++i) free_frames_.push_back(kFrames - 1 - i);
  }
  for (Outgoing& out : under_way_) {
    out.stage = Stage::kWaiting;
    out.cursor = 0;
    out.next_part = 0;
    out.pending = 0;
    out.granted.clear();
  }
  grants_.clear();
  arriving_.clear();  // all that is not delivered comes again
}

// ---- sending ------------------------------------------------------------------------------------

bool MessageStream::can_post() const { return endpoint_->send_free() > 0; }

std::size_t MessageStream::pump() {
  if (endpoint_ == nullptr || !endpoint_->connected()) return 0;
  if (grants_.empty() && under_way_.empty() && waiting_.empty()) return 0;
  if (Status opened = open(); !opened.ok()) {
    PENSTOCK_LOG_ERROR("messages of peer {}: {}", peer_, opened.to_string());
    endpoint_->close();
    return 0;
  }
  std::size_t posted = 0;
  while (!grants_.empty() && post_grants()) ++posted;
  for (Outgoing& out : under_way_)
    while (pump_message(out)) ++posted;
  while (!waiting_.empty() && begin_next())
    while (pump_message(under_way_.back())) ++posted;
  finish_posted();
  return posted;
}

bool MessageStream::begin_next() {
  if (under_way_.size() >= kMaxUnderWay || free_frames_.empty() || !can_post()) return false;
  Outgoing out;
  out.prepared = std::move(waiting_.front());
  out.sequence = next_sequence_++;
  waiting_.pop_front();
  under_way_.push_back(std::move(out));
  return true;
}

bool MessageStream::pump_message(Outgoing& out) {
  if (!can_post()) return false;
  if (out.stage == Stage::kGranted) return post_writes(out);
  if (out.stage == Stage::kWaiting) return post_first(out);
  const bool unfinished =
      out.stage == Stage::kPosted && !out.large() && out.cursor < out.prepared.total;
  return unfinished && post_more(out);
}

// Copies bytes [from, …) of the parts laid end to end, as many as fit.
static std::size_t copy_parts(const OpenMessage& message, std::uint64_t from,
                              std::span<std::byte> to) {
  std::size_t copied = 0;
  for (const MessagePart& part : message.parts) {
    const std::size_t size = part.bytes.size();
    if (from >= size) {
      from -= size;
      continue;
    }
    const std::size_t count = std::min<std::size_t>(size - from, to.size() - copied);
    if (count != 0) std::memcpy(to.data() + copied, part.bytes.data() + from, count);
    copied += count;
    from = 0;
    if (copied == to.size()) break;
  }
  return copied;
}

std::byte* MessageStream::take_frame() {
  if (free_frames_.empty()) return nullptr;
  return frames_->bytes().data() + free_frames_.back() * frame_bytes_;
}

// There is room. What is refused for good would come out of order later: the connection ends.
bool MessageStream::post(const WorkRequest& work) {
  const Status posted = endpoint_->post(work);
  if (posted.ok()) return true;
  if (posted.code() != Code::kExhausted && endpoint_->connected()) {
    PENSTOCK_LOG_ERROR("messages of peer {}: {}", peer_, posted.to_string());
    endpoint_->close();
  }
  return false;
}

// Posts the frame that take_frame() gave.
bool MessageStream::post_frame(std::size_t length, std::uint32_t sequence_low) {
  WorkRequest work;
  work.opcode = Opcode::kSend;
  work.local = frames_.get();
  work.local_offset = free_frames_.back() * frame_bytes_;
  work.length = length;
  work.tag = kMessageTag | std::uint64_t{free_frames_.back()} << 24 | sequence_low;
  if (!post(work)) return false;
  free_frames_.pop_back();
  return true;
}

bool MessageStream::post_first(Outgoing& out) {
  std::byte* const at = take_frame();
  if (at == nullptr) return false;
  const OpenMessage& message = out.prepared.message;
  MessageFrame frame{kStart, static_cast<std::uint8_t>(message.parts.size()),
                     static_cast<std::uint16_t>(message.meta.size()), 0, out.sequence};
  std::size_t used = sizeof frame;
  std::memcpy(at, &frame, sizeof frame);
  for (const MessagePart& part : message.parts) {
    const std::uint64_t size = part.bytes.size();
    std::memcpy(at + used, &size, sizeof size);
    used += sizeof size;
  }
  if (!message.meta.empty()) std::memcpy(at + used, message.meta.data(), message.meta.size());
  used += message.meta.size();
  std::size_t payload = 0;
  if (!out.large()) payload = copy_parts(message, 0, {at + used, frame_bytes_ - used});
  if (!post_frame(used + payload, static_cast<std::uint32_t>(out.sequence & kLowMask)))
    return false;
  ++out.pending;
  out.cursor = payload;
  out.stage = out.large() ? Stage::kOffered : Stage::kPosted;
  return true;
}

bool MessageStream::post_more(Outgoing& out) {
  std::byte* const at = take_frame();
  if (at == nullptr) return false;
  const MessageFrame frame{kMore, 0, 0, 0, out.sequence};
  std::memcpy(at, &frame, sizeof frame);
  const std::size_t payload = copy_parts(out.prepared.message, out.cursor,
                                         {at + sizeof frame, frame_bytes_ - sizeof frame});
  if (!post_frame(sizeof frame + payload, static_cast<std::uint32_t>(out.sequence & kLowMask)))
    return false;
  ++out.pending;
  out.cursor += payload;
  return true;
}

// One write; the last one carries the immediate. `cursor` counts within the part.
bool MessageStream::post_writes(Outgoing& out) {
  const auto& parts = out.prepared.message.parts;
  while (out.next_part < parts.size() && parts[out.next_part].bytes.empty()) ++out.next_part;
  const std::uint64_t size = parts[out.next_part].bytes.size();
  std::size_t last = parts.size() - 1;
  while (parts[last].bytes.empty()) --last;
  WorkRequest work;
  work.opcode = Opcode::kWrite;
  work.local = out.prepared.sources[out.next_part].region.get();
  work.local_offset = out.prepared.sources[out.next_part].offset + out.cursor;
  work.length = std::min(kWriteBytes, size - out.cursor);
  work.remote = &out.granted[out.next_part].region;
  work.remote_offset = out.granted[out.next_part].offset + out.cursor;
  const auto low = static_cast<std::uint32_t>(out.sequence & kLowMask);
  work.tag = kMessageTag | kWriteTag | low;
  if (out.next_part == last && out.cursor + work.length == size) {
    work.has_immediate = true;
    work.immediate = encode_immediate(SliceKind::kLanded, 0, low);
  }
  if (!post(work)) return false;
  ++out.pending;
  out.cursor += work.length;
  if (out.cursor < size) return true;
  out.cursor = 0;
  ++out.next_part;
  if (work.has_immediate) out.stage = Stage::kPosted;
  return true;
}

bool MessageStream::post_grants() {
  std::byte* const at = can_post() ? take_frame() : nullptr;
  if (at == nullptr) return false;
  const std::vector<std::byte>& grant = grants_.front();
  std::memcpy(at, grant.data(), grant.size());
  if (!post_frame(grant.size(), kLowMask)) return false;
  grants_.pop_front();
  return true;
}

void MessageStream::on_done(const Completion& completion) {
  if (endpoint_ == nullptr) return;
  const bool write = (completion.tag & kWriteTag) != 0;
  if (!write) free_frames_.push_back(static_cast<std::uint32_t>(completion.tag >> 24) & 0xffffU);
  if (completion.code != Code::kOk) return;  // the connection ends; what is kept goes again
  if (Outgoing* const out = find(static_cast<std::uint32_t>(completion.tag & kLowMask)))
    --out->pending;
  finish_posted();
}

void MessageStream::finish_posted() {
  const auto done = [](const Outgoing& out) {
    const bool all = out.large() || out.cursor == out.prepared.total;
    return out.stage == Stage::kPosted && all && out.pending == 0;
  };
  while (!under_way_.empty() && done(under_way_.front())) under_way_.pop_front();
}

MessageStream::Outgoing* MessageStream::find(std::uint32_t sequence_low) {
  if (under_way_.empty()) return nullptr;
  const std::uint64_t ahead = (sequence_low - under_way_.front().sequence) & kLowMask;
  return ahead < under_way_.size() ? &under_way_[ahead] : nullptr;
}

}  // namespace penstock
