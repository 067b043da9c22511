// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/endpoint.h"

#include <fmt/format.h>

#include <cstring>

#include "transport/loopback/switchboard.h"
#include "transport/parts/post.h"

namespace penstock::loopback {
namespace {

bool inside(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

bool is_done(Event event) {
  return event == Event::kWriteDone || event == Event::kReadDone || event == Event::kSendDone;
}

}  // namespace

LoopbackEndpoint::LoopbackEndpoint(LoopbackDevice& device, LoopbackQueue& queue,
                                   const EndpointOptions& options)
    : device_(device),
      queue_(queue),
      options_(options),
      ref_(queue.attach(*this, options.send_depth)),
      reason_(Code::kNotFound, "the endpoint is still connecting"),
      timeline_(device.switchboard().timeline()),
      handle_(timeline_ == nullptr ? 0 : timeline_->add(*this)) {
  ops_.reserve(options.send_depth);
  if (timeline_ != nullptr && options.deadline_ns != kNever)
    timeline_->schedule(options.deadline_ns, handle_, kDeadline);
  queue_.add_connecting();
  device_.count_endpoint(+1);
}

LoopbackEndpoint::~LoopbackEndpoint() {
  if (state_ == State::kConnecting) queue_.remove_connecting();
  if (timeline_ != nullptr) land_some();
  if (state_ != State::kFailed) part();
  device_.switchboard().detach(*this);
  queue_.detach(ref_, options_.send_depth);
  if (timeline_ != nullptr) timeline_->remove(handle_);
  device_.count_endpoint(-1);
}

Status LoopbackEndpoint::post(std::span<const WorkRequest> work) {
  if (state_ != State::kConnected) return reason_;
  if (work.size() > send_free())
    return Status(Code::kExhausted, fmt::format("posting {} requests on a send queue with {} free",
                                                work.size(), send_free()));
  for (const WorkRequest& request : work) PENSTOCK_RETURN_IF_ERROR(check(request));
  for (const WorkRequest& request : work) ops_.push(pack(request));
  outstanding_ += static_cast<std::uint32_t>(work.size());
  if (timeline_ != nullptr) {
    set_out(work.size());
  } else if (!stalled_) {
    stalled_ = advance();
    if (stalled_) queue_.add_stalled(ref_);
  }
  return {};
}

void LoopbackEndpoint::close() {
  if (state_ == State::kFailed) return;
  if (timeline_ != nullptr) land_some();
  fail(Status(Code::kCancelled, "closed by its owner"));
}

std::uint32_t LoopbackEndpoint::send_free() const {
  return state_ == State::kConnected ? options_.send_depth - outstanding_ : 0;
}

Status LoopbackEndpoint::check(const WorkRequest& request) const {
  if (request.has_immediate && request.opcode != Opcode::kWrite)
    return Status(Code::kInvalidArgument, "posting an immediate with something else than a write");
  if (request.opcode == Opcode::kSend && request.length > device_.capabilities().max_message_bytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("posting a message of {} bytes; the longest is {}", request.length,
                              device_.capabilities().max_message_bytes));
  if (request.length == 0) return {};
  if (request.local == nullptr || request.local->describe().incarnation != device_.incarnation())
    return Status(Code::kInvalidArgument, "posting bytes of no region of this device");
  if (!inside(request.local_offset, request.length, request.local->bytes().size()))
    return Status(Code::kInvalidArgument,
                  fmt::format("posting local bytes {}+{} outside their region of {}",
                              request.local_offset, request.length, request.local->bytes().size()));
  if (request.opcode == Opcode::kSend) return {};
  if (request.remote == nullptr || !request.remote->reachable_by(ProviderKind::kLoopback) ||
      request.remote->version != RemoteRegion::kVersion)
    return Status(Code::kInvalidArgument, "posting to no loopback region");
  return {};
}

LoopbackEndpoint::Op LoopbackEndpoint::pack(const WorkRequest& request) {
  Op op;
  op.opcode = request.opcode;
  op.has_immediate = request.has_immediate;
  op.unordered = request.unordered;
  op.immediate = request.immediate;
  op.tag = request.tag;
  op.length = op.landing = request.length;
  if (request.length == 0) return op;
  op.local_key = request.local->describe().key[kKeySlot];
  op.local_offset = request.local_offset;
  if (request.remote == nullptr) return op;
  op.incarnation = request.remote->incarnation;
  op.remote_key = request.remote->key[kKeySlot];
  op.remote_offset = request.remote_offset;
  return op;
}

// Delivers posts in order until one fails the endpoint or has to wait for room: true then.
bool LoopbackEndpoint::advance() {
  while (!ops_.empty()) {
    const Code code = deliver(ops_.front());
    if (code == kNotReady) return true;
    if (code != Code::kOk) {
      const bool violation = code != Code::kConnectionLost;
      if (violation) complete(code);
      fail(Status(code, violation ? "the peer's memory refused a post" : "the peer is gone"));
      return false;
    }
    complete(Code::kOk);
  }
  return false;
}

bool LoopbackEndpoint::retry() { return stalled_ = state_ == State::kConnected && advance(); }

Code LoopbackEndpoint::deliver(const Op& op) {
  RegionEntry* local = nullptr;
  if (op.length != 0) {
    local = device_.regions().enter(op.local_key);
    if (local == nullptr) return Code::kStale;  // the owner deregistered bytes it had lent
  }
  Code code = Code::kConnectionLost;
  Connection::Side& theirs = connection_->sides[1 - side_];
  if (theirs.gate.enter()) {
    code = apply(*theirs.endpoint, op,
                 local == nullptr ? nullptr : local->bytes.data() + op.local_offset);
    theirs.gate.leave();
  }
  if (local != nullptr) local->gate.leave();
  return code;
}

// Inside the peer's gate. Of the peer's members, only what never changes is touched.
Code LoopbackEndpoint::apply(LoopbackEndpoint& peer, const Op& op, std::byte* local) {
  const bool arrives = op.has_immediate || op.opcode == Opcode::kSend;
  if (arrives && !peer.queue_.has_room()) return kNotReady;
  if (op.opcode != Opcode::kSend && op.length != 0) {
    const Code code = access_peer(peer, op, local);
    if (code != Code::kOk) return code;
  }
  if (!arrives) return Code::kOk;
  const bool message = op.opcode == Opcode::kSend;
  const Arrival arrival{peer.ref_, message ? Event::kMessage : Event::kImmediate, op.immediate,
                        op.length};
  const std::span<const std::byte> bytes(local, message ? op.length : 0);
  return peer.queue_.deliver(arrival, bytes) ? Code::kOk : kNotReady;
}

// Everything is checked before the first byte moves.
Code LoopbackEndpoint::access_peer(LoopbackEndpoint& peer, const Op& op, std::byte* local) {
  if (op.incarnation != peer.device_.incarnation()) return Code::kStale;
  RegionEntry* region = peer.device_.regions().enter(op.remote_key);
  if (region == nullptr) return Code::kStale;
  const bool write = op.opcode == Opcode::kWrite;
  const bool allowed = (region->scope == kAnyScope || region->scope == peer.options_.scope) &&
                       (write ? allows_write(region->access) : allows_read(region->access)) &&
                       inside(op.remote_offset, op.length, region->bytes.size());
  if (allowed) {
    std::byte* remote = region->bytes.data() + op.remote_offset;
    std::memmove(write ? remote : local, write ? local : remote, op.landing);
  }
  region->gate.leave();
  return allowed ? Code::kOk : Code::kAccess;
}

Result<std::shared_ptr<RemoteMapping>> LoopbackEndpoint::map(const RemoteRegion& remote,
                                                             Access access) {
  if (state_ != State::kConnected) return Status(Code::kConnectionLost, "mapping: not connected");
  if (!remote.reachable_by(ProviderKind::kLoopback))
    return Status(Code::kUnsupported, "mapping no loopback region");
  Connection::Side& theirs = connection_->sides[1 - side_];
  if (!theirs.gate.enter()) return Status(Code::kConnectionLost, "mapping: the peer is gone");
  LoopbackEndpoint& peer = *theirs.endpoint;
  RegionEntry* const region = remote.incarnation == peer.device_.incarnation()
                                  ? peer.device_.regions().enter(remote.key[kKeySlot])
                                  : nullptr;
  std::shared_ptr<RemoteMapping> mapping;
  Code code = region == nullptr ? Code::kStale : Code::kAccess;
  if (region != nullptr) {
    if (region->memory == nullptr)
      code = Code::kUnsupported;
    else if ((region->scope == kAnyScope || region->scope == peer.options_.scope) &&
             covers(region->access, access))
      mapping = std::make_shared<LoopbackMapping>(region->bytes, region->memory);
    region->gate.leave();
  }
  theirs.gate.leave();
  if (mapping == nullptr) return Status(code, "the peer's memory cannot be mapped");
  return mapping;
}

// The oldest post has ended.
void LoopbackEndpoint::complete(Code code) {
  const Op& op = ops_.front();
  Completion completion;
  completion.event = parts::done_event(op.opcode);
  completion.code = code;
  completion.endpoint = options_.id;
  completion.tag = op.tag;
  completion.length = code == Code::kOk ? op.length : 0;
  queue_.complete(ref_, completion);
  ops_.pop();
}

void LoopbackEndpoint::fail(Status reason) {
  if (state_ == State::kConnecting) queue_.remove_connecting();
  state_ = State::kFailed;
  reason_ = std::move(reason);
  const bool own = reason_.code() == Code::kCancelled;
  while (!ops_.empty()) complete(own ? Code::kCancelled : Code::kConnectionLost);
  part();
  queue_.add_departing(ref_);
}

// Nothing lands here any more, and the peer learns of it.
void LoopbackEndpoint::part() {
  device_.switchboard().withdraw(*this);
  if (connection_ == nullptr) return;
  connection_->sides[side_].gate.close();
  Connection::Side& theirs = connection_->sides[1 - side_];
  if (!theirs.gate.enter()) return;  // it has parted as well
  if (timeline_ != nullptr) {
    theirs.endpoint->lose_later(Code::kConnectionLost);
  } else {
    theirs.endpoint->signal_lost(Code::kConnectionLost);
  }
  theirs.gate.leave();
}

void LoopbackEndpoint::notice() {
  const std::uint32_t signals = signals_.load(std::memory_order_acquire);
  if (state_ == State::kConnecting && (signals & kEstablished) != 0) {
    queue_.remove_connecting();
    state_ = State::kConnected;
    reason_ = {};
    Completion completion;
    completion.event = Event::kConnected;
    completion.endpoint = options_.id;
    queue_.complete(ref_, completion);
  }
  if (state_ == State::kFailed || (signals & kLost) == 0) return;
  const Code code = lost_code_.load(std::memory_order_relaxed);
  fail(Status(code, code == Code::kUnauthenticated ? "no endpoint there waits for this token"
                                                   : "the connection was lost"));
}

void LoopbackEndpoint::expire() {
  if (state_ != State::kConnecting || device_.clock().now_ns() < options_.deadline_ns) return;
  device_.switchboard().withdraw(*this);
  notice();  // the peer may have come between the last look and the withdrawal
  if (state_ == State::kConnecting)
    fail(Status(Code::kTimeout, "no peer connected by the deadline"));
}

void LoopbackEndpoint::finish() {
  Completion completion;
  completion.event = Event::kDisconnected;
  completion.code = reason_.code();
  completion.endpoint = options_.id;
  queue_.complete(ref_, completion);
}

void LoopbackEndpoint::taken(Event event) {
  if (is_done(event)) --outstanding_;
}

void LoopbackEndpoint::establish(Connection& connection, std::size_t side) {
  connection_ = &connection;
  side_ = side;
  if (timeline_ == nullptr || side == 1) {
    signal_established();
    return;
  }
  // The answer has a way to go, and nothing the other end posts arrives before it.
  const TimeNs at_ns = timeline_->now_ns() + timeline_->draw_data_delay();
  timeline_->schedule(at_ns, handle_, kEstablish);
  connection.sides[1].endpoint->established_ns_ = at_ns;
}

void LoopbackEndpoint::signal_established() {
  signals_.fetch_or(kEstablished, std::memory_order_release);  // pairs with notice()
  queue_.call_attention();
}

void LoopbackEndpoint::signal_lost(Code code) {
  Code none = Code::kOk;
  lost_code_.compare_exchange_strong(none, code, std::memory_order_relaxed);  // the first reason
  signals_.fetch_or(kLost, std::memory_order_release);                        // pairs with notice()
  queue_.call_attention();
}

}  // namespace penstock::loopback
