// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <utility>

#include "transport/ucx/connection.h"
#include "transport/ucx/queue.h"

// Frames as UCX hands them over, inside progress(): checked, put in place, noted.

namespace penstock::ucx {

ucs_status_t Connection::on_frame(const FrameHeader& header, void* data, std::size_t length,
                                  std::uint64_t receive_attributes) {
  if (!carries_frames() || poisoned_) return UCS_OK;
  arrived_ = true;
  queue_.mark_ready(*this);
  count(queue_.counts().frames_received, 1);
  count(queue_.counts().bytes_received, length);
  if (!acknowledge(header.ack))
    return poison(Code::kProtocol, "an acknowledgement of something never sent");
  const bool rndv = (receive_attributes & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
  const std::uint64_t expected = header.type == FrameType::kReadRequest ? 0 : header.length;
  if (length != expected) return poison(Code::kProtocol, "a frame of another length than it says");
  switch (header.type) {
    case FrameType::kWrite:
      return take_write(header, data, length, rndv);
    case FrameType::kReadRequest:
      if (Arrival* arrival = open_arrival(header)) arrival->state = Arrival::State::kReadAsked;
      return UCS_OK;
    case FrameType::kReadResponse:
      return take_response(header, data, length, rndv);
    case FrameType::kSend:
      return take_message(header, data, length, receive_attributes);
    case FrameType::kAck:
      return UCS_OK;
  }
  return poison(Code::kProtocol, "a frame of no known type");
}

ucs_status_t Connection::poison(Code code, const char* what) {
  poisoned_ = true;
  poison_code_ = code;
  poison_what_ = what;
  return UCS_OK;
}

Connection::Arrival* Connection::open_arrival(const FrameHeader& header) {
  const std::uint64_t ahead = header.sequence - reported_ - 1;
  if (header.sequence == 0 || ahead >= peer_depth_ ||
      arrival_at(header.sequence).state != Arrival::State::kNone) {
    (void)poison(Code::kProtocol, "a sequence number that cannot be");
    return nullptr;
  }
  Arrival& arrival = arrival_at(header.sequence);
  arrival.header = header;
  arrival.owner = this;
  arrival.state = Arrival::State::kLanded;
  return &arrival;
}

ucs_status_t Connection::take_write(const FrameHeader& header, void* data, std::size_t length,
                                    bool rndv) {
  Arrival* arrival = open_arrival(header);
  if (arrival == nullptr || length == 0) return UCS_OK;  // an immediate alone touches no region
  RegionTable::Claim claim = regions_.resolve({.incarnation = header.incarnation,
                                               .key = header.key,
                                               .offset = header.offset,
                                               .length = header.length,
                                               .wanted = Access::kRemoteWrite,
                                               .scope = options_.scope});
  if (claim.code != Code::kOk) {
    arrival->state = Arrival::State::kRefused;
    arrival->code = claim.code;
    poisoned_ = true;  // named when all before it is reported
    return UCS_OK;
  }
  arrival->guard = std::move(claim.guard);
  bool landing = false;
  const ucs_status_t status = land(data, claim.bytes, rndv, on_write_landed, arrival, landing);
  if (landing)
    ++landing_writes_;
  else
    arrival->guard.release();
  if (landing || poisoned_)
    arrival->state = landing ? Arrival::State::kLanding : Arrival::State::kNone;
  unacked_bytes_ += length;
  return status;
}

ucs_status_t Connection::land(void* data, std::span<std::byte> to, bool rndv,
                              ucp_am_recv_data_nbx_callback_t callback, void* user, bool& landing) {
  landing = false;
  if (!rndv) {
    std::memcpy(to.data(), data, to.size());
    return UCS_OK;
  }
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                       UCP_OP_ATTR_FIELD_MEMORY_TYPE | UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  param.cb.recv_am = callback;
  param.user_data = user;
  param.memory_type = UCS_MEMORY_TYPE_HOST;
  landing = true;
  ++under_way_;
  const ucs_status_ptr_t request =
      api_.ucp_am_recv_data_nbx(worker_->handle(), data, to.data(), to.size(), &param);
  if (UCS_PTR_IS_PTR(request)) return UCS_INPROGRESS;
  landing = false;
  --under_way_;
  if (UCS_PTR_IS_ERR(request)) return poison(Code::kConnectionLost, "UCX could not receive");
  return UCS_OK;
}

void Connection::on_write_landed(void* request, ucs_status_t status, std::size_t /*length*/,
                                 void* user) {
  Arrival& arrival = *static_cast<Arrival*>(user);
  Connection& self = *arrival.owner;
  --self.landing_writes_;
  arrival.guard.release();
  arrival.state = status == UCS_OK ? Arrival::State::kLanded : Arrival::State::kNone;
  if (status != UCS_OK) self.on_line_failed(status);
  self.over();
  self.api_.ucp_request_free(request);
}

ucs_status_t Connection::take_response(const FrameHeader& header, void* data, std::size_t length,
                                       bool rndv) {
  Post& post = post_at(header.sequence);
  const bool asked = header.sequence > retired_ && header.sequence <= posted_ &&
                     post.opcode == Opcode::kRead && !post.landing && !post.landed &&
                     post.local.size() == length;
  if (!asked) return poison(Code::kProtocol, "a read response nobody asked for");
  if (length == 0) {
    post.landed = true;
    return UCS_OK;
  }
  post.landed = false;
  const ucs_status_t status = land(data, post.local, rndv, on_read_landed, &post, post.landing);
  if (!post.landing && !poisoned_) post.landed = true;
  return status;
}

void Connection::on_read_landed(void* request, ucs_status_t status, std::size_t /*length*/,
                                void* user) {
  Post& post = *static_cast<Post*>(user);
  Connection& self = *post.owner;
  post.landing = false;
  post.landed = status == UCS_OK;
  if (status != UCS_OK) self.on_line_failed(status);
  self.over();
  self.api_.ucp_request_free(request);
}

ucs_status_t Connection::take_message(const FrameHeader& header, void* data, std::size_t length,
                                      std::uint64_t receive_attributes) {
  if (length > kMaxMessageBytes ||
      (length > 0 && (receive_attributes & UCP_AM_RECV_ATTR_FLAG_DATA) == 0))
    return poison(Code::kProtocol, "a message that is too long");
  Arrival* arrival = open_arrival(header);
  if (arrival == nullptr || length == 0) return UCS_OK;
  arrival->message = data;
  return UCS_INPROGRESS;
}

}  // namespace penstock::ucx
