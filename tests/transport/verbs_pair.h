// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two verbs devices of this process and what happens on their endpoints, for tests of what is
// special to verbs.

#include <poll.h>

#include <array>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/transport/verbs_harness.h"

namespace penstock::test {

class VerbsNode {
 public:
  VerbsNode(const verbs::VerbsApi& api, const VerbsOptions& options, const Clock& clock)
      : device(open_verbs_device(api, options, clock).value()),
        queue(device->create_completion_queue(64).value()) {}

  void turn() {
    std::array<Completion, 16> taken;
    const std::size_t count = queue->poll(taken);
    for (const Completion& event : std::span(taken.data(), count)) ++events[event.event];
    device->progress();
  }
  std::uint64_t counter(const std::string& name) const {
    std::uint64_t sum = 0;
    for (const Counter& each : device->counters())
      if (each.name.ends_with("." + name)) sum += each.value;
    return sum;
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> queue;
  std::map<Event, int> events;
};

struct VerbsPair {
  explicit VerbsPair(const verbs::VerbsApi& api, const VerbsOptions& options = {})
      : VerbsPair(api, api, options) {}
  VerbsPair(const verbs::VerbsApi& of_a, const verbs::VerbsApi& of_b,
            const VerbsOptions& options = {})
      : a(of_a, options, clock), b(of_b, options, clock) {}

  bool until(const std::function<bool()>& condition) {
    const TimeNs deadline_ns = clock.now_ns() + 10 * kSecond;
    while (!condition()) {
      if (clock.now_ns() > deadline_ns) return false;
      a.turn();
      b.turn();
      if (a.queue->arm() && b.queue->arm()) sleep();
    }
    return true;
  }
  // As lanes do where processors are few: who spins keeps the kernel's own threads from running.
  void sleep() const {
    std::array<pollfd, 4> fds{pollfd{a.queue->fd(), POLLIN, 0}, pollfd{b.queue->fd(), POLLIN, 0},
                              pollfd{a.device->fd(), POLLIN, 0}, pollfd{b.device->fd(), POLLIN, 0}};
    ::poll(fds.data(), fds.size(), 10);
  }
  // An end at a and one at b. Not yet connected; nullptr where the device refused.
  struct Ends {
    std::unique_ptr<Endpoint> a, b;
    Status status;  // of connecting
    bool connected() const { return a && b && a->connected() && b->connected(); }
  };
  Ends connect(const EndpointOptions& wanted = {}) {
    EndpointOptions options = wanted;
    options.token = random_token();
    Ends ends;
    ends.b = b.device->accept(*b.queue, options).value();
    auto connecting = a.device->connect(*a.queue, b.device->address(), options);
    ends.status = connecting.status();
    if (connecting.ok()) ends.a = std::move(*connecting);
    return ends;
  }

  SystemClock clock;
  VerbsNode a, b;
};

}  // namespace penstock::test
