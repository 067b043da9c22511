// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/nccl_bootstrap.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

namespace penstock {
namespace {

constexpr Rank kRoot = 0;
constexpr std::chrono::milliseconds kNap{1};

// What worker 0 gives: the id, or the reason why there is none.
struct Invitation {
  NcclUniqueId id{};
  std::uint8_t code = 0;  // a Code; 0: the id counts
  std::array<char, 383> reason{};
};
static_assert(sizeof(Invitation) == 512 && std::is_trivially_copyable_v<Invitation>);

Invitation invite(const NcclLibrary& nccl) {
  Invitation invitation;
  const Result<NcclUniqueId> id = new_nccl_id(nccl);
  if (id.ok()) {
    invitation.id = *id;
  } else {
    const std::string reason = id.status().what().substr(0, invitation.reason.size());
    invitation.code = static_cast<std::uint8_t>(id.status().code());
    std::memcpy(invitation.reason.data(), reason.data(), reason.size());
  }
  return invitation;
}

Status refusal(const Invitation& invitation) {
  if (invitation.code == 0) return {};
  const auto end = std::find(invitation.reason.begin(), invitation.reason.end(), '\0');
  const bool known = invitation.code <= static_cast<std::uint8_t>(Code::kSystem);
  return {known ? static_cast<Code>(invitation.code) : Code::kProtocol,
          fmt::format("worker {} has no unique id for NCCL: {}", kRoot,
                      std::string(invitation.reason.begin(), end))};
}

// Ends by the deadline, and when the job ends.
Status wait_connected(NcclCommunicator& communicator, const Worker& worker, const Clock& clock,
                      TimeNs deadline_ns) {
  while (true) {
    if (const std::optional<Status> done = communicator.poll()) return *done;
    if (const std::optional<Status> failure = worker.failure()) return communicator.abort(*failure);
    if (clock.now_ns() >= deadline_ns)
      return communicator.abort(
          Status(Code::kTimeout, fmt::format("NCCL has not connected {} GPUs of {} workers",
                                             communicator.ranks(), worker.workers()))
              .with_hint("NCCL_DEBUG=INFO says what it waits for; NCCL_SOCKET_IFNAME chooses the "
                         "network that it connects by"));
    std::this_thread::sleep_for(kNap);
  }
}

}  // namespace

Result<std::unique_ptr<NcclCommunicator>> connect_workers(Worker& worker, const Clock& clock,
                                                          const NcclHost& host,
                                                          std::span<const NcclDevice> devices) {
  const TimeNs deadline_ns = worker.call_deadline_ns();
  const auto count = static_cast<std::uint32_t>(devices.size());
  if (count == 0)
    return Status(Code::kInvalidArgument, "connect workers: no GPU of this one")
        .with_hint("every worker brings as many GPUs as the others, 1 or more");
  Invitation invitation;
  if (worker.rank() == kRoot) invitation = invite(*host.nccl);
  PENSTOCK_RETURN_IF_ERROR(
      worker.share(fmt::format("NCCL's unique id for {} GPUs of each worker", count),
                   std::as_writable_bytes(std::span(&invitation, 1)), kRoot));
  PENSTOCK_RETURN_IF_ERROR(refusal(invitation));
  PENSTOCK_ASSIGN_OR_RETURN(auto communicator,
                            NcclCommunicator::begin(host, invitation.id, worker.workers() * count,
                                                    worker.rank() * count, devices));
  PENSTOCK_RETURN_IF_ERROR(wait_connected(*communicator, worker, clock, deadline_ns));
  return communicator;
}

}  // namespace penstock
