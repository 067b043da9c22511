// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/send_comm.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/base/check.h"

namespace penstock::nccl {
namespace {

constexpr std::uint32_t kSendDepth = 256;  // pieces under way
// Ranks of a job come up minutes apart; NCCL itself waits for ever.
constexpr TimeNs kConnectNs = 120 * kSecond;
// A crowd of newcomers pushes the oldest out before it could name its token.
constexpr TimeNs kRetryNs = 2 * kSecond;
constexpr TimeNs kFirstPauseNs = kMillisecond, kLongestPauseNs = 50 * kMillisecond;

}  // namespace

Result<std::unique_ptr<SendComm>> SendComm::create(NetDevice& device, std::string address,
                                                   const Token& token) {
  PENSTOCK_ASSIGN_OR_RETURN(auto queue, make_queue(device));
  std::unique_ptr<SendComm> self(new SendComm(device, std::move(queue), std::move(address), token));
  PENSTOCK_RETURN_IF_ERROR(self->dial());
  return self;
}

SendComm::SendComm(NetDevice& device, std::unique_ptr<CompletionQueue> queue, std::string address,
                   const Token& token)
    : Comm(device, std::move(queue)), address_(std::move(address)), token_(token) {
  const TimeNs now_ns = device.clock().now_ns();
  connect_by_ns_ = now_ns + kConnectNs;
  retry_until_ns_ = now_ns + kRetryNs;
  pause_ns_ = kFirstPauseNs;
  for (Send& send : sends_) send.comm = this;
}

Status SendComm::dial() {
  EndpointOptions options;
  options.provider = device_.transport().kind();
  options.token = token_;
  options.send_depth = kSendDepth;
  options.deadline_ns = connect_by_ns_;
  PENSTOCK_ASSIGN_OR_RETURN(endpoint_, device_.transport().connect(*queue_, address_, options));
  return {};
}

Result<bool> SendComm::connect() {
  const TimeNs now_ns = device_.clock().now_ns();
  if (endpoint_ == nullptr) {
    if (now_ns < next_dial_ns_) return false;
    PENSTOCK_RETURN_IF_ERROR(dial());
  }
  const Status status = poll();
  if (connected_) return true;
  if (!ended_) return false;
  if (status.code() != Code::kConnectionLost || now_ns >= retry_until_ns_) return status;
  endpoint_.reset();
  ended_ = false;
  failure_ = {};
  next_dial_ns_ = now_ns + pause_ns_;
  pause_ns_ = std::min(2 * pause_ns_, kLongestPauseNs);
  return false;
}

void SendComm::on_event(const Completion& event) {
  switch (event.event) {
    case Event::kMessage:
      return on_message(event.message);
    case Event::kWriteDone:
      CHECK(event.tag < kSends);
      if (event.code == Code::kOk) ++sends_[event.tag].finished;
      return;  // what failed ends the connection, which says why
    case Event::kImmediate:
      return fail(Status(Code::kProtocol, "the receiving end wrote here"));
    case Event::kReadDone:
    case Event::kSendDone:
    case Event::kConnected:
    case Event::kDisconnected:
      return;
  }
}

void SendComm::on_message(std::span<const std::byte> message) {
  if (!failure_.ok()) return;
  const Result<Announcement> announced = decode_announcement(message);
  if (!announced.ok()) return fail(announced.status());
  Receive* receive = last_ == first_ ? nullptr : &receives_[(last_ - 1) % kMaxRequests];
  if (receive == nullptr || receive->seen == receive->count) {  // the first buffer of another one
    if (last_ - first_ == kMaxRequests)
      return fail(Status(Code::kProtocol, "more receives announced than a connection has"));
    receive = &receives_[last_++ % kMaxRequests];
    receive->count = announced->count;
    receive->seen = receive->used = 0;
    receive->taken.fill(false);
  }
  if (announced->index != receive->seen || announced->count != receive->count ||
      (receive->seen > 0 && announced->slot != receive->buffers[0].slot))
    return fail(Status(Code::kProtocol, "a receive announced out of order"));
  receive->buffers[receive->seen++] = *announced;
}

Announcement* SendComm::match(int tag, Receive& receive, std::size_t& index) {
  for (index = 0; index < receive.seen; ++index)
    if (!receive.taken[index] && receive.buffers[index].tag == tag) return &receive.buffers[index];
  return nullptr;
}

SendComm::Send* SendComm::free_send() {
  for (std::size_t i = 0; i < kSends; ++i) {
    Send& send = sends_[next_send_++ % kSends];
    if (!send.active) return &send;
  }
  return nullptr;
}

Result<Request*> SendComm::send(void* data, std::uint64_t bytes, int tag, MemoryHandle* memory) {
  if (first_ == last_) (void)poll();
  PENSTOCK_RETURN_IF_ERROR(Status(failure_));
  if (bytes > kMaxBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("a send of {} bytes, the most is {}", bytes, kMaxBytes));
  if (first_ == last_) return nullptr;
  Receive& receive = receives_[first_ % kMaxRequests];
  std::size_t index = 0;
  const Announcement* target = match(tag, receive, index);
  if (target == nullptr) {  // its announcement may be on its way
    (void)poll();
    return nullptr;
  }
  if (target->size < bytes)
    return Status(
        Code::kInvalidArgument,
        fmt::format("a send of {} bytes (tag {}) into a receive of {}", bytes, tag, target->size));
  if (bytes > 0 && (memory == nullptr || memory->device != &device_))
    return Status(Code::kInvalidArgument, "a send from memory not registered on this device");
  if (bytes > 0) PENSTOCK_RETURN_IF_ERROR(memory->check(data, bytes));
  Send* send = free_send();
  if (send == nullptr) return nullptr;
  send->active = true;
  send->memory = bytes > 0 ? memory : nullptr;
  send->local_offset = bytes > 0 ? memory->offset_of(data) : 0;
  send->bytes = bytes;
  send->target = *target;
  send->pieces = pieces_of(bytes);
  send->posted = send->finished = 0;
  if (send->memory != nullptr) send->memory->uses.fetch_add(1, std::memory_order_relaxed);
  receive.taken[index] = true;
  if (++receive.used == receive.count) ++first_;
  waiting_[waiting_last_++ % kSends] = static_cast<std::uint16_t>(send - sends_.data());
  begin();
  post_pieces();
  (void)poll();  // out with it; test() tells what goes wrong
  return send;
}

WorkRequest SendComm::piece_of(const Send& send, std::uint32_t piece) const {
  const std::uint64_t at = piece * kPieceBytes;
  return {.opcode = Opcode::kWrite,
          .has_immediate = true,
          .unordered = true,
          .immediate = pack({send.target.slot, send.target.index, send.pieces}),
          .tag = static_cast<std::uint64_t>(&send - sends_.data()),
          .local = send.bytes > 0 ? send.memory->buffer.region.get() : nullptr,
          .local_offset = send.local_offset + at,
          .length = std::min(kPieceBytes, send.bytes - at),
          .remote = send.bytes > 0 ? &send.target.region : nullptr,
          .remote_offset = send.target.offset + at};
}

void SendComm::post_pieces() {
  while (waiting_first_ != waiting_last_ && failure_.ok() && endpoint_->send_free() > 0) {
    Send& send = sends_[waiting_[waiting_first_ % kSends]];
    if (const Status status = endpoint_->post(piece_of(send, send.posted)); !status.ok())
      return fail(status);
    if (++send.posted == send.pieces) ++waiting_first_;
  }
}

Result<bool> SendComm::test(Request& request, int* sizes) {
  Send& send = static_cast<Send&>(request);
  if (send.finished < send.pieces) {
    const Status status = poll();
    if (send.finished < send.pieces) {
      if (!status.ok()) return status;
      post_pieces();
      return false;
    }
  }
  if (sizes != nullptr) *sizes = static_cast<int>(send.bytes);
  if (send.memory != nullptr) send.memory->uses.fetch_sub(1, std::memory_order_relaxed);
  send.active = false;
  send.memory = nullptr;
  done();
  return true;
}

void SendComm::drop_requests() {
  for (Send& send : sends_) {
    if (send.memory != nullptr) send.memory->uses.fetch_sub(1, std::memory_order_relaxed);
    send.memory = nullptr;
  }
  waiting_first_ = waiting_last_;
}

}  // namespace penstock::nccl
