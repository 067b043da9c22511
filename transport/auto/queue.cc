// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/auto/queue.h"

#include <cerrno>

#include "transport/auto/poller.h"

namespace penstock::automatic {

Result<std::unique_ptr<AutoQueue>> AutoQueue::create(
    std::vector<std::unique_ptr<CompletionQueue>> parts) {
  std::vector<int> fds;
  for (const auto& part : parts) fds.push_back(part->fd());
  PENSTOCK_ASSIGN_OR_RETURN(UniqueFd poller, join_descriptors(fds));
  return std::make_unique<AutoQueue>(std::move(parts), std::move(poller));
}

std::size_t AutoQueue::poll(std::span<Completion> out) {
  std::size_t taken = 0;
  for (std::size_t i = 0; i < parts_.size() && taken < out.size(); ++i) {
    const std::size_t part = (first_ + i) % parts_.size();
    if (in_use_[part]) taken += parts_[part]->poll(out.subspan(taken));
  }
  first_ = (first_ + 1) % parts_.size();  // nobody starves behind a busy neighbour
  return taken;
}

bool AutoQueue::arm() {
  bool armed = true;
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (in_use_[i] && !parts_[i]->arm()) armed = false;
  return armed;
}

}  // namespace penstock::automatic
