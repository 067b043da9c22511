// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One shm device with a queue and at most one endpoint, and a peer that says what it likes.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "transport/shm/device.h"
#include "transport/shm/peer.h"
#include "transport/shm/segment.h"
#include "transport/shm/socket.h"

namespace penstock::test {

// A test that waits longer than this for something has failed. Generous: sanitizers, busy hosts.
inline constexpr auto kTestPatience = std::chrono::seconds(20);

template <class Condition>
bool eventually(Condition condition) {
  const auto until = std::chrono::steady_clock::now() + kTestPatience;
  while (!condition())
    if (std::chrono::steady_clock::now() > until) return false;
  return true;
}

inline EndpointOptions with_token(const Token& token, std::uint32_t send_depth = 64) {
  EndpointOptions options;
  options.token = token;
  options.send_depth = send_depth;
  return options;
}

struct ShmSide {
  explicit ShmSide(const ShmOptions& options = {})
      : device(open_shm_device(options, clock).value()),
        queue(device->create_completion_queue(64).value()) {}

  void accept(const Token& token) { endpoint = device->accept(*queue, with_token(token)).value(); }
  void connect(const std::string& address, const Token& token) {
    endpoint = device->connect(*queue, address, with_token(token)).value();
  }
  void poll() {
    device->progress();
    std::array<Completion, 16> out;
    const std::size_t count = queue->poll(out);
    for (std::size_t i = 0; i < count; ++i) events.push_back(out[i]);
    if (peer != nullptr) peer->poll();
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
      return false;
    });
    return found;
  }
  Status write(const MemoryRegion& from, const RemoteRegion& to, std::uint32_t immediate) {
    return endpoint->post({.opcode = Opcode::kWrite,
                           .has_immediate = true,
                           .immediate = immediate,
                           .tag = immediate,
                           .local = &from,
                           .length = from.bytes().size(),
                           .remote = &to});
  }
  std::uint64_t counter(const std::string& name) const {
    for (const Counter& each : device->counters())
      if (each.name == name) return each.value;
    return UINT64_MAX;
  }

  SystemClock clock;
  std::unique_ptr<Device> device;
  std::unique_ptr<CompletionQueue> queue;
  std::unique_ptr<Endpoint> endpoint;
  std::deque<Completion> events;
  ShmSide* peer = nullptr;  // polled along
};

// Speaks the protocol of message.h and segment.h by hand.
struct RawPeer {
  RawPeer();
  // Connects and says hello to a device; the test changes `hello` or `fds` before.
  void connect(const std::string& address);
  int say_hello(const Token& token);
  // The next message, polling `side` meanwhile; false when it does not come.
  bool hear(ShmSide& side);
  void send(shm::MessageKind kind, std::uint64_t key = 0);
  // Puts an entry into the ring and says so.
  void publish(const shm::Entry& entry);
  // Puts a region into the table; `base` 0 is mapped nowhere.
  void claim_region(std::uint64_t key, std::uint64_t length, const shm::RegionRights& rights,
                    std::uint64_t base = 0);

  shm::SharedMemory memory, regions;
  UniqueFd bell;
  shm::Segment segment;
  UniqueFd socket;
  shm::Message hello;
  std::vector<int> fds;
  shm::Parcel heard;
  std::uint64_t published = 0;
};

}  // namespace penstock::test
