// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Who computes on this server: its processor or a GPU, and where gradients arrive then.

#include "engine/server/gpu_norm_update.h"
#include "engine/server/norm_update.h"
#include "engine/server/server.h"
#include "transport/base/log.h"

namespace penstock {

Status Server::place_memory(std::uint32_t workers, std::uint32_t lanes) {
  ComputePlacement placement{options_.compute, false};
  if (placement.device != nullptr) {
    const Status direct = takes_compute_memory(device_, *placement.device);
    if (!direct.ok() && direct.code() != Code::kUnsupported) return direct;
    placement.direct = direct.ok();
    PENSTOCK_LOG_INFO("server {}: gradients arrive {} of {}{}", self_.rank,
                      direct.ok() ? "in the memory" : "in pinned host memory on the way to that",
                      placement.device->name(), direct.ok() ? "" : ": " + direct.what());
  }
  for (std::uint32_t lane = 0; lane < lanes; ++lane)
    memory_.emplace_back(workers, device_, placement);
  return {};
}

Result<std::unique_ptr<Updater>> Server::make_updater(NormRings& rings) {
  if (options_.compute == nullptr)
    return std::unique_ptr<Updater>(
        std::make_unique<NormUpdater>(std::make_unique<HostUpdater>(kernels_), rings, waker_));
  PENSTOCK_ASSIGN_OR_RETURN(
      auto updater,
      GpuUpdater::create(*options_.compute, kernels_, static_cast<std::uint32_t>(workers_.size())));
  return std::unique_ptr<Updater>(
      std::make_unique<GpuNormUpdater>(std::move(updater), rings, waker_));
}

Status Server::check_supported(const std::vector<Declaration>& batch) const {
  if (options_.compute == nullptr) return {};
  for (const Declaration& declaration : batch) PENSTOCK_RETURN_IF_ERROR(gpu_supports(declaration));
  return {};
}

}  // namespace penstock
