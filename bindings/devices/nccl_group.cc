// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/nccl_group.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

constexpr unsigned kWithoutTiming = 2;  // CU_EVENT_DISABLE_TIMING
constexpr int kNotReady = 600;          // CUDA_ERROR_NOT_READY

int nccl_type(DType dtype) {
  if (dtype == DType::kFloat16) return kNcclFloat16;
  return dtype == DType::kBfloat16 ? kNcclBfloat16 : kNcclFloat32;
}

}  // namespace

Result<std::unique_ptr<NcclGroup>> NcclGroup::create(const NcclHost& host,
                                                     std::span<const NcclDevice> devices) {
  if (devices.empty() || devices.size() > kMaxGroupDevices)
    return Status(Code::kInvalidArgument, fmt::format("a group of {} devices: 1 to {} can be",
                                                      devices.size(), kMaxGroupDevices));
  PENSTOCK_ASSIGN_OR_RETURN(const NcclUniqueId id, new_nccl_id(*host.nccl));
  PENSTOCK_ASSIGN_OR_RETURN(
      auto communicator,
      NcclCommunicator::begin(host, id, static_cast<std::uint32_t>(devices.size()), 0, devices));
  std::unique_ptr<NcclGroup> group(new NcclGroup(host, std::move(communicator)));
  PENSTOCK_RETURN_IF_ERROR(group->make_events());
  return group;
}

NcclGroup::NcclGroup(const NcclHost& host, std::unique_ptr<NcclCommunicator> communicator)
    : cuda_(*host.cuda),
      communicator_(std::move(communicator)),
      ring_(size()),
      events_(kMaxGroupCalls * size()) {}

NcclGroup::~NcclGroup() {
  for (std::size_t i = 0; i < events_.size(); ++i)
    if (events_[i] != nullptr)
      (void)communicator_->locals()[i % size()].context.with(
          [&] { return cuda_.cuEventDestroy_v2(events_[i]); });
}

Status NcclGroup::make_events() {
  for (std::size_t i = 0; i < events_.size(); ++i)
    PENSTOCK_RETURN_IF_ERROR(cuda_status(communicator_->locals()[i % size()].context.with([&] {
      return cuda_.cuEventCreate(&events_[i], kWithoutTiming);
    }),
                                         "cuEventCreate"));
  return {};
}

Result<GroupTicket> NcclGroup::begin(const GroupCall& call) {
  PENSTOCK_RETURN_IF_ERROR(failure_);
  return ring_.add(call);
}

std::size_t NcclGroup::progress() {
  if (!failure_.ok()) return 0;
  const Result<std::size_t> done = advance();
  if (done.ok()) return *done;
  failure_ = communicator_->abort(done.status());
  ring_.finish_all(failure_);
  return 1;
}

Result<std::size_t> NcclGroup::advance() {
  std::size_t done = 0;
  for (GroupTicket* const each : {&finished_, &recorded_, &issued_})
    *each = std::max(*each, ring_.first());  // polled already: there was nothing to do
  // Also says what went wrong with calls that are on the streams.
  const std::optional<Status> ready = communicator_->poll();
  if (ready && !ready->ok()) return *ready;
  if (ready && recorded_ < issued_) {
    PENSTOCK_RETURN_IF_ERROR(record(recorded_++));
    ++done;
  }
  if (ready && recorded_ == issued_ && issued_ < ring_.end()) {
    if (!ring_.at(issued_).status) PENSTOCK_RETURN_IF_ERROR(issue(ring_.at(issued_).call));
    ++issued_;
    ++done;
  }
  for (; finished_ < recorded_; ++finished_, ++done) {
    if (ring_.at(finished_).status) continue;
    PENSTOCK_ASSIGN_OR_RETURN(const bool over, passed(finished_));
    if (!over) break;
    ring_.finish(finished_, {});
  }
  return done;
}

Status NcclGroup::issue(const GroupCall& call) {
  const NcclLibrary& nccl = communicator_->nccl();
  const int root = static_cast<int>(call.root);
  const int type = nccl_type(call.dtype);
  if (call.kind == GroupCallKind::kReduce)
    return communicator_->start("ncclReduce", [&](std::size_t d, const auto& local) {
      return nccl.ncclReduce(call.buffers[d], d == call.root ? call.leader : nullptr, call.count,
                             type, kNcclSum, root, local.comm, local.stream);
    });
  return communicator_->start("ncclBroadcast", [&](std::size_t d, const auto& local) {
    return nccl.ncclBroadcast(d == call.root ? call.leader : nullptr, call.buffers[d], call.count,
                              type, root, local.comm, local.stream);
  });
}

// Only once NCCL has put the operations on the streams: an event before them would tell nothing.
Status NcclGroup::record(GroupTicket ticket) {
  if (ring_.at(ticket).status) return {};
  for (std::size_t d = 0; d < size(); ++d) {
    const NcclCommunicator::Local& local = communicator_->locals()[d];
    PENSTOCK_RETURN_IF_ERROR(cuda_status(
        local.context.with([&] { return cuda_.cuEventRecord(event(ticket, d), local.stream); }),
        "cuEventRecord"));
  }
  return {};
}

Result<bool> NcclGroup::passed(GroupTicket ticket) {
  for (std::size_t d = 0; d < size(); ++d) {
    const int result = communicator_->locals()[d].context.with(
        [&] { return cuda_.cuEventQuery(event(ticket, d)); });
    if (result == kNotReady) return false;
    PENSTOCK_RETURN_IF_ERROR(cuda_status(result, "cuEventQuery"));
  }
  return true;
}

}  // namespace penstock
