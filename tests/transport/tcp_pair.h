// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two tcp devices on this host, one endpoint each, driven by the test's thread.

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "transport/tcp/device.h"

namespace penstock {

// A test that waits longer than this for something has failed. Generous: sanitizers, busy hosts.
inline constexpr auto kTestPatience = std::chrono::seconds(20);

// Polls `condition` until it is true; false when patience ends.
template <class Condition>
bool eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + kTestPatience;
  while (!condition())
    if (std::chrono::steady_clock::now() > until) return false;
  return true;
}

// One device with one queue, one region and at most one endpoint. What the endpoint reports is
// kept in `events` until a wait_for() takes it.
struct TcpSide {
  explicit TcpSide(const Clock& clock, const TcpOptions& options = {},
                   std::size_t region_bytes = std::size_t{1} << 20)
      : device(std::move(open_tcp_device(options, clock).value())),
        queue(std::move(device->create_completion_queue(64).value())),
        bytes(region_bytes),
        region(std::move(
            device->register_memory(bytes, MemoryKind::kHost, Access::kRemoteReadWrite).value())) {}

  // Everything both devices have to do, once. Keeps what was reported.
  void poll() {
    device->progress();
    std::array<Completion, 16> out;
    const std::size_t count = queue->poll(out);
    for (std::size_t i = 0; i < count; ++i) events.push_back(out[i]);
  }

  // The next event of this kind, polling this side and its peer; others stay queued.
  std::optional<Completion> wait_for(Event kind) {
    std::optional<Completion> found;
    (void)eventually([&] {
      for (auto event = events.begin(); event != events.end(); ++event) {
        if (event->event != kind) continue;
        found = *event;
        events.erase(event);
        return true;
      }
      poll();
      if (peer != nullptr) peer->poll();
      return false;
    });
    return found;
  }

  Status write(const TcpSide& to, std::uint64_t offset, std::uint64_t length,
               std::uint32_t immediate, std::uint64_t tag = 0) {
    const RemoteRegion remote = to.region->describe();
    return endpoint->post({.opcode = Opcode::kWrite,
                           .has_immediate = true,
                           .immediate = immediate,
                           .tag = tag,
                           .local = region.get(),
                           .local_offset = offset,
                           .length = length,
                           .remote = &remote,
                           .remote_offset = offset});
  }

  std::uint64_t counter(std::string_view name) const {
    for (const Counter& counter : device->counters())
      if (counter.name == name) return counter.value;
    CHECK(false, "the device counts no {}", name);
    return 0;
  }

  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> queue;
  std::vector<std::byte> bytes;
  std::unique_ptr<MemoryRegion> region;
  std::unique_ptr<Endpoint> endpoint;
  std::deque<Completion> events;
  TcpSide* peer = nullptr;
};

// `a` connects, `b` accepts.
struct TcpPair {
  explicit TcpPair(const TcpOptions& options = {}) : a(clock, options), b(clock, options) {
    a.peer = &b;
    b.peer = &a;
  }

  bool connect(const EndpointOptions& base = {}) {
    EndpointOptions options = base;
    options.token = random_token();
    b.endpoint = std::move(b.device->accept(*b.queue, options).value());
    a.endpoint = std::move(a.device->connect(*a.queue, b.device->address(), options).value());
    return a.wait_for(Event::kConnected) && b.wait_for(Event::kConnected);
  }

  SystemClock clock;
  TcpSide a, b;
};

}  // namespace penstock
