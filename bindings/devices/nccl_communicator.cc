// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/nccl_communicator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace penstock {
namespace {

Status check(std::uint32_t ranks, std::uint32_t first_rank, std::span<const NcclDevice> devices) {
  if (devices.empty() || devices.size() > ranks || first_rank > ranks - devices.size())
    return {Code::kInvalidArgument, fmt::format("{} GPUs as ranks from {} of a communicator of {}",
                                                devices.size(), first_rank, ranks)};
  for (std::size_t i = 0; i < devices.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (devices[i].ordinal == devices[j].ordinal)
        return Status(Code::kInvalidArgument,
                      fmt::format("GPU {} twice in one communicator", devices[i].ordinal))
            .with_hint("NCCL takes each GPU once");
  return {};
}

}  // namespace

Result<NcclUniqueId> new_nccl_id(const NcclLibrary& nccl) {
  NcclUniqueId id{};
  PENSTOCK_RETURN_IF_ERROR(nccl_status(nccl, nccl.ncclGetUniqueId(&id), "ncclGetUniqueId"));
  return id;
}

Result<std::unique_ptr<NcclCommunicator>> NcclCommunicator::begin(
    const NcclHost& host, const NcclUniqueId& id, std::uint32_t ranks, std::uint32_t first_rank,
    std::span<const NcclDevice> devices) {
  PENSTOCK_RETURN_IF_ERROR(check(ranks, first_rank, devices));
  PENSTOCK_RETURN_IF_ERROR(nccl_version(*host.nccl).status());
  std::unique_ptr<NcclCommunicator> made(new NcclCommunicator(host, ranks));
  made->locals_.reserve(devices.size());
  for (const NcclDevice& each : devices) {
    int device = 0;
    PENSTOCK_RETURN_IF_ERROR(
        cuda_status(host.cuda->cuDeviceGet(&device, each.ordinal),
                    fmt::format("cuDeviceGet of GPU {}", each.ordinal).c_str()));
    PENSTOCK_ASSIGN_OR_RETURN(CudaContext context, CudaContext::retain(*host.cuda, device));
    made->locals_.push_back({std::move(context), each.stream, nullptr});
  }
  NcclConfig config;
  PENSTOCK_RETURN_IF_ERROR(made->start("ncclCommInitRankConfig", [&](std::size_t i, Local& local) {
    // NCCL takes the GPU of the current context.
    return local.context.with([&] {
      return host.nccl->ncclCommInitRankConfig(&local.comm, static_cast<int>(ranks), id,
                                               static_cast<int>(first_rank + i), &config);
    });
  }));
  return made;
}

NcclCommunicator::~NcclCommunicator() {
  if (failure_.ok()) (void)abort(Status(Code::kCancelled, "the communicator is closed"));
}

std::optional<Status> NcclCommunicator::poll() {
  if (!failure_.ok()) return failure_;
  bool busy = false;
  for (const Local& local : locals_) {
    int state = kNcclSuccess;
    const int result = nccl().ncclCommGetAsyncError(local.comm, &state);
    if (bad(result) || bad(state)) return fail(bad(result) ? result : state, local.comm);
    busy = busy || state == kNcclInProgress;
  }
  if (busy) return std::nullopt;
  if (!std::exchange(closing_, false)) return Status();
  int result = kNcclSuccess;
  for (Local& local : locals_) {
    const int destroyed = nccl().ncclCommDestroy(std::exchange(local.comm, nullptr));
    if (bad(destroyed)) result = destroyed;
  }
  failure_ = bad(result) ? nccl_status(nccl(), result, "ncclCommDestroy")
                         : Status(Code::kCancelled, "the communicator is closed");
  return bad(result) ? failure_ : Status();
}

Status NcclCommunicator::begin_close() {
  PENSTOCK_RETURN_IF_ERROR(failure_);
  what_ = "ncclCommFinalize";
  for (const Local& local : locals_)
    PENSTOCK_RETURN_IF_ERROR(fail(nccl().ncclCommFinalize(local.comm), local.comm));
  closing_ = true;
  return {};
}

// All ranks of a process, or NCCL frees what another one still uses.
Status NcclCommunicator::abort(Status reason) {
  failure_ = std::move(reason);
  for (Local& local : locals_)
    if (local.comm != nullptr) (void)nccl().ncclCommAbort(std::exchange(local.comm, nullptr));
  return failure_;
}

Status NcclCommunicator::fail(int result, NcclComm comm) {
  return bad(result) ? abort(nccl_status(nccl(), result, what_, comm)) : Status();
}

}  // namespace penstock
