// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/net.h"

#include <fmt/format.h>

#include "bindings/nccl/discovery.h"
#include "transport/base/random.h"

namespace penstock::nccl {
namespace {

// NCCL asks for a connection all the time while it wants it.
constexpr TimeNs kAbandonedNs = 60 * kSecond;

}  // namespace

void Net::close() {
  MutexLock lock(mutex_);
  connecting_.clear();
  if (open_.load(std::memory_order_relaxed) > 0)
    for (std::unique_ptr<NetDevice>& device : devices_) (void)device.release();
  devices_.clear();
}

Status Net::init() {
  MutexLock lock(mutex_);
  if (!devices_.empty()) return {};
  PENSTOCK_ASSIGN_OR_RETURN(devices_, open_net_devices(clock_));
  return {};
}

int Net::device_count() {
  MutexLock lock(mutex_);
  return static_cast<int>(devices_.size());
}

Result<NetDevice*> Net::device(int index) {
  MutexLock lock(mutex_);
  if (index < 0 || static_cast<std::size_t>(index) >= devices_.size())
    return Status(Code::kInvalidArgument, fmt::format("device {} of {}", index, devices_.size()));
  return devices_[static_cast<std::size_t>(index)].get();
}

Result<ListenComm*> Net::listen(int index, std::span<std::byte, kHandleBytes> handle) {
  PENSTOCK_ASSIGN_OR_RETURN(NetDevice * device, this->device(index));
  PENSTOCK_ASSIGN_OR_RETURN(auto listener, ListenComm::create(*device));
  PENSTOCK_RETURN_IF_ERROR(
      encode_handle({listener->token(), 0, device->transport().address()}, handle));
  open_.fetch_add(1, std::memory_order_relaxed);
  return listener.release();
}

Result<Net::Connecting> Net::take(NetDevice& device, const ListenHandle& handle,
                                  std::uint64_t& cookie) {
  {
    MutexLock lock(mutex_);
    const TimeNs now_ns = clock_.now_ns();
    std::erase_if(connecting_,
                  [&](const auto& entry) { return now_ns - entry.second.seen_ns > kAbandonedNs; });
    // A cookie that came with the handle from elsewhere names nothing here.
    if (auto node = connecting_.extract(handle.cookie)) return std::move(node.mapped());
  }
  PENSTOCK_ASSIGN_OR_RETURN(auto comm, SendComm::create(device, handle.address, handle.token));
  cookie = random_u64();
  return Connecting{std::move(comm), 0};
}

Result<SendComm*> Net::connect(int index, std::span<std::byte, kHandleBytes> bytes) {
  PENSTOCK_ASSIGN_OR_RETURN(NetDevice * device, this->device(index));
  PENSTOCK_ASSIGN_OR_RETURN(const ListenHandle handle, decode_handle(bytes));
  std::uint64_t cookie = handle.cookie;
  PENSTOCK_ASSIGN_OR_RETURN(Connecting connecting, take(*device, handle, cookie));
  PENSTOCK_ASSIGN_OR_RETURN(const bool connected, connecting.comm->connect());
  set_cookie(bytes, connected ? 0 : cookie);
  if (connected) {
    open_.fetch_add(1, std::memory_order_relaxed);
    return connecting.comm.release();
  }
  connecting.seen_ns = clock_.now_ns();
  MutexLock lock(mutex_);
  connecting_.emplace(cookie, std::move(connecting));
  return nullptr;
}

Result<ReceiveComm*> Net::accept(ListenComm& listener) {
  PENSTOCK_ASSIGN_OR_RETURN(auto comm, listener.accept());
  if (comm != nullptr) open_.fetch_add(1, std::memory_order_relaxed);
  return comm.release();
}

void Net::close(ListenComm* listener) {
  delete listener;
  open_.fetch_sub(1, std::memory_order_relaxed);
}

void Net::close(Comm* comm) {
  delete comm;
  open_.fetch_sub(1, std::memory_order_relaxed);
}

Result<MemoryHandle*> Net::register_memory(Comm& comm, std::span<std::byte> bytes, bool cuda) {
  PENSTOCK_ASSIGN_OR_RETURN(auto memory, comm.device().register_memory(bytes, cuda, comm.access()));
  return memory.release();
}

Status Net::deregister(Comm& comm, MemoryHandle* memory) {
  if (memory->uses.load(std::memory_order_relaxed) > 0) {
    comm.fail(Status(Code::kCancelled, "memory was deregistered with requests in flight"));
    comm.shut();
  }
  if (memory->uses.load(std::memory_order_relaxed) > 0)
    return Status(Code::kInvalidArgument,
                  "memory is deregistered that requests of another connection use");
  delete memory;
  return {};
}

}  // namespace penstock::nccl
