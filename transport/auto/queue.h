// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "transport/api/device.h"
#include "transport/base/unique_fd.h"

namespace penstock::automatic {

// One queue of each provider, polled in turn. A provider without endpoints here is not polled.
class AutoQueue final : public CompletionQueue {
 public:
  AutoQueue(std::vector<std::unique_ptr<CompletionQueue>> parts, UniqueFd poller)
      : parts_(std::move(parts)), in_use_(parts_.size(), false), poller_(std::move(poller)) {}

  // kSystem when the descriptors cannot be joined.
  static Result<std::unique_ptr<AutoQueue>> create(
      std::vector<std::unique_ptr<CompletionQueue>> parts);

  std::size_t poll(std::span<Completion> out) override;
  bool arm() override;
  int fd() const override { return poller_.get(); }

  // The queue of the device with this index, about to get an endpoint. Owner thread.
  CompletionQueue& use(std::size_t index) {
    in_use_[index] = true;
    return *parts_[index];
  }

 private:
  std::vector<std::unique_ptr<CompletionQueue>> parts_;  // by device
  std::vector<bool> in_use_;
  std::size_t first_ = 0;  // whose turn it is
  UniqueFd poller_;        // an epoll descriptor over theirs
};

}  // namespace penstock::automatic
