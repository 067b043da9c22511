// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/epoll.h>

#include <cerrno>
#include <span>

#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace penstock::automatic {

// A descriptor that is readable while one of `fds` is; negative ones are left out.
inline Result<UniqueFd> join_descriptors(std::span<const int> fds) {
  UniqueFd poller(::epoll_create1(EPOLL_CLOEXEC));
  if (!poller.valid()) return Status::system("creating an epoll descriptor", errno);
  for (const int fd : fds) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (fd >= 0 && ::epoll_ctl(poller.get(), EPOLL_CTL_ADD, fd, &event) != 0)
      return Status::system("joining the transports' descriptors", errno);
  }
  return poller;
}

}  // namespace penstock::automatic
