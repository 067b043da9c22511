// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/receive_comm.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock::nccl {

Result<std::unique_ptr<ReceiveComm>> ReceiveComm::create(NetDevice& device, const Token& token) {
  PENSTOCK_ASSIGN_OR_RETURN(auto queue, make_queue(device));
  PENSTOCK_ASSIGN_OR_RETURN(
      auto announcements,
      device.transport().allocate_memory(kAnnouncements * Announcement::kBytes, Access::kLocal));
  std::unique_ptr<ReceiveComm> self(
      new ReceiveComm(device, std::move(queue), std::move(announcements)));
  EndpointOptions options;
  options.provider = device.transport().kind();
  options.token = token;
  options.send_depth = kAnnouncements;
  PENSTOCK_ASSIGN_OR_RETURN(self->endpoint_, device.transport().accept(*self->queue_, options));
  return self;
}

ReceiveComm::ReceiveComm(NetDevice& device, std::unique_ptr<CompletionQueue> queue,
                         std::unique_ptr<MemoryRegion> announcements)
    : Comm(device, std::move(queue)), announcements_(std::move(announcements)) {
  for (Receive& receive : receives_) receive.comm = this;
}

Status ReceiveComm::check(const Buffer& buffer) const {
  if (buffer.bytes > kMaxBytes)
    return Status(Code::kInvalidArgument,
                  fmt::format("a receive of {} bytes, the most is {}", buffer.bytes, kMaxBytes));
  if (buffer.bytes == 0) return {};
  if (buffer.memory == nullptr || buffer.memory->device != &device_ ||
      !covers(buffer.memory->access, Access::kRemoteWrite))
    return Status(Code::kInvalidArgument,
                  "a receive into memory not registered for receiving on this device");
  return buffer.memory->check(buffer.data, buffer.bytes);
}

Result<Request*> ReceiveComm::receive(std::span<const Buffer> buffers) {
  PENSTOCK_RETURN_IF_ERROR(Status(failure_));
  if (buffers.empty() || buffers.size() > kMaxReceives)
    return Status(Code::kInvalidArgument,
                  fmt::format("a receive of {} buffers, not 1 … {}", buffers.size(), kMaxReceives));
  for (const Buffer& buffer : buffers) PENSTOCK_RETURN_IF_ERROR(check(buffer));
  if (kAnnouncements - (announced_ - sent_) < buffers.size()) {
    (void)poll();
    return nullptr;
  }
  const auto found =
      std::find_if(receives_.begin(), receives_.end(), [](const Receive& r) { return !r.active; });
  if (found == receives_.end()) return nullptr;
  Receive& receive = *found;
  receive.active = true;
  receive.count = static_cast<std::uint8_t>(buffers.size());
  receive.landed = 0;
  begin();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& buffer = buffers[i];
    MemoryHandle* memory = buffer.bytes > 0 ? buffer.memory : nullptr;
    receive.buffers[i] = {.size = buffer.bytes, .memory = memory};
    if (memory != nullptr) memory->uses.fetch_add(1, std::memory_order_relaxed);
    const Status status = announce(
        {.slot = static_cast<std::uint8_t>(&receive - receives_.data()),
         .index = static_cast<std::uint8_t>(i),
         .count = receive.count,
         .tag = buffer.tag,
         .size = buffer.bytes,
         .offset = memory != nullptr ? memory->offset_of(buffer.data) : 0,
         .region = memory != nullptr ? memory->buffer.region->describe() : RemoteRegion{}});
    if (!status.ok()) {
      fail(status);
      return status;
    }
  }
  (void)poll();  // out with it; test() tells what goes wrong
  return &receive;
}

Status ReceiveComm::announce(const Announcement& announcement) {
  const std::size_t at = announced_ % kAnnouncements * Announcement::kBytes;
  encode_announcement(announcement,
                      announcements_->bytes().subspan(at).first<Announcement::kBytes>());
  PENSTOCK_RETURN_IF_ERROR(endpoint_->post({.opcode = Opcode::kSend,
                                            .local = announcements_.get(),
                                            .local_offset = at,
                                            .length = Announcement::kBytes}));
  ++announced_;
  return {};
}

void ReceiveComm::on_event(const Completion& event) {
  switch (event.event) {
    case Event::kImmediate:
      return on_piece(unpack(event.immediate), event.length);
    case Event::kSendDone:  // in the order of the posts
      ++sent_;
      return;
    case Event::kMessage:
      return fail(Status(Code::kProtocol, "the sending end announced a receive"));
    case Event::kWriteDone:
    case Event::kReadDone:
    case Event::kConnected:
    case Event::kDisconnected:
      return;
  }
}

void ReceiveComm::on_piece(const Arrival& arrival, std::uint64_t bytes) {
  if (!failure_.ok()) return;
  Receive& receive = receives_[arrival.slot];
  const bool known = receive.active && arrival.index < receive.count && arrival.pieces > 0;
  Landing* landing = known ? &receive.buffers[arrival.index] : nullptr;
  if (landing == nullptr || bytes > landing->size - landing->bytes ||
      (landing->pieces > 0 && arrival.pieces != landing->all_pieces) ||
      (landing->pieces > 0 && landing->pieces == landing->all_pieces))
    return fail(Status(Code::kProtocol, "bytes for no receive"));
  landing->all_pieces = arrival.pieces;
  landing->bytes += bytes;
  if (++landing->pieces == landing->all_pieces) ++receive.landed;
}

Result<bool> ReceiveComm::test(Request& request, int* sizes) {
  Receive& receive = static_cast<Receive&>(request);
  if (receive.landed < receive.count) {
    const Status status = poll();
    if (receive.landed < receive.count) {
      if (!status.ok()) return status;
      return false;
    }
  }
  for (std::size_t i = 0; sizes != nullptr && i < receive.count; ++i)
    sizes[i] = static_cast<int>(receive.buffers[i].bytes);
  release(receive);
  receive.active = false;
  done();
  return true;
}

void ReceiveComm::release(Receive& receive) {
  for (Landing& landing : receive.buffers) {
    if (landing.memory != nullptr) landing.memory->uses.fetch_sub(1, std::memory_order_relaxed);
    landing.memory = nullptr;
  }
}

void ReceiveComm::drop_requests() {
  for (Receive& receive : receives_) release(receive);
}

}  // namespace penstock::nccl
