// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The GPUs of one process, summed and supplied by NCCL on streams of the caller's: what a stream
// holds when a call begins to run, a backward pass for example, is done before it. Buffers are
// memory of their device, or memory of the host that CUDA pinned.
//
// A call passes through: waiting for the one before it to be issued; issued to NCCL; on the
// streams, where an event after it tells of its end.

#include "bindings/devices/call_ring.h"
#include "bindings/devices/nccl_communicator.h"

namespace penstock {

class NcclGroup final : public DeviceGroup {
 public:
  // Starts to connect the GPUs with each other; calls may begin at once and wait for it.
  // kInvalidArgument for no device, too many or one twice; kUnsupported, kSystem of NCCL and CUDA.
  static Result<std::unique_ptr<NcclGroup>> create(const NcclHost& host,
                                                   std::span<const NcclDevice> devices);
  ~NcclGroup() override;  // ends what is under way anywhere

  std::uint32_t size() const override {
    return static_cast<std::uint32_t>(communicator_->locals().size());
  }
  Result<GroupTicket> begin(const GroupCall& call) override;
  std::size_t progress() override;
  std::optional<Status> poll(GroupTicket ticket) override { return ring_.poll(ticket); }

 private:
  NcclGroup(const NcclHost& host, std::unique_ptr<NcclCommunicator> communicator);
  Status make_events();
  Status issue(const GroupCall& call);
  Status record(GroupTicket ticket);
  Result<bool> passed(GroupTicket ticket);  // its events
  Result<std::size_t> advance();
  void*& event(GroupTicket ticket, std::size_t device) {
    return events_[ticket % kMaxGroupCalls * size() + device];
  }

  const CudaDriver& cuda_;
  std::unique_ptr<NcclCommunicator> communicator_;
  CallRing ring_;
  std::vector<void*> events_;  // [call of the ring][device]
  // finished_ ≤ recorded_ ≤ issued_: how far the calls are, in their order.
  GroupTicket finished_ = 0, recorded_ = 0, issued_ = 0;
  Status failure_;
};

}  // namespace penstock
