// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/transport/ucx_peer.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <vector>

#include "transport/ucx/device.h"

namespace penstock::test {
namespace {

constexpr const char* kPeerFlag = "--ucx-peer";
// Nobody kills it only if the test died: then it ends by itself.
constexpr TimeNs kLifeNs = 60 * kSecond;

template <class T>
std::string to_hex(const T& value) {
  std::string text;
  for (const std::byte each : std::as_bytes(std::span(&value, 1))) {
    text += "0123456789abcdef"[std::to_integer<unsigned>(each) >> 4];
    text += "0123456789abcdef"[std::to_integer<unsigned>(each) & 15];
  }
  return text;
}

template <class T>
T from_hex(const std::string& text) {
  T value{};
  for (std::size_t i = 0; i < sizeof value; ++i) {
    const auto byte = static_cast<unsigned char>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
    std::memcpy(reinterpret_cast<std::byte*>(&value) + i, &byte, 1);
  }
  return value;
}

int run_peer(const PeerOrders& orders) {
  const SystemClock clock;
  UcxOptions options;
  options.transports = orders.transports;
  auto device = open_ucx_device(options, clock).value();
  auto queue = device->create_completion_queue(256).value();
  std::vector<std::byte> bytes(orders.region.length, std::byte{0x5a});
  auto region = device->register_memory(bytes, MemoryKind::kHost, Access::kLocal).value();
  EndpointOptions end;
  end.token = orders.token;
  auto endpoint = device->connect(*queue, orders.address, end).value();
  WorkRequest write;
  write.has_immediate = true;
  write.local = region.get();
  write.length = bytes.size();
  write.remote = &orders.region;
  std::array<Completion, 16> taken;
  for (const TimeNs until = clock.now_ns() + kLifeNs; clock.now_ns() < until;) {
    while (endpoint->send_free() > 0 && endpoint->post(write).ok()) {
    }
    for (std::size_t i = queue->poll(taken); i > 0; --i)
      if (taken[i - 1].event == Event::kDisconnected) return 0;
  }
  return 1;
}

}  // namespace

PeerProcess::PeerProcess(const PeerOrders& orders) {
  std::vector<std::string> words{"peer",
                                 kPeerFlag,
                                 orders.transports,
                                 orders.address,
                                 to_hex(orders.token),
                                 to_hex(orders.region)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  EXPECT_EQ(::posix_spawn(&pid_, "/proc/self/exe", nullptr, nullptr, arguments.data(), environ), 0);
}

PeerProcess::~PeerProcess() { kill(); }

void PeerProcess::stop() const { EXPECT_EQ(::kill(pid_, SIGSTOP), 0); }

void PeerProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace penstock::test

int main(int count, char** words) {
  using namespace penstock;
  using namespace penstock::test;
  if (count == 6 && std::string(words[1]) == kPeerFlag)
    return run_peer({.transports = words[2],
                     .address = words[3],
                     .token = from_hex<Token>(words[4]),
                     .region = from_hex<RemoteRegion>(words[5])});
  testing::InitGoogleTest(&count, words);
  return RUN_ALL_TESTS();
}
