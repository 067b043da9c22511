// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Two devices of the verbs provider on one fake fabric, and a fixture that ends each test by
// checking that every post got its one completion, in order, and that the NIC was treated well.

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "tests/support/fake_nic/fabric.h"
#include "transport/verbs/open.h"

namespace penstock::test {

struct FakeEnd {
  std::unique_ptr<Endpoint> endpoint;
  std::uint32_t id = 0;
  int side = 0;
  std::vector<std::uint64_t> posted;
  std::vector<Completion> done, immediates;
  bool connected = false, disconnected = false;
  std::size_t messages = 0;
  std::uint32_t qp = 0;  // of its first path

  std::vector<Code> codes() const;
};

class FakeDevices {
 public:
  // Device `a` has the first half of the NICs as its rails, `b` the second.
  // `gpus`: of the host of both.
  explicit FakeDevices(FabricOptions options = two_nics(), std::optional<GpuHost> gpus = {});
  ~FakeDevices();
  FakeDevices(const FakeDevices&) = delete;
  FakeDevices& operator=(const FakeDevices&) = delete;

  static FabricOptions two_nics();
  static FabricOptions four_nics();  // two rails each
  struct Link {
    FakeEnd& a;
    FakeEnd& b;
  };
  Link link(EndpointOptions options = {});
  // One write of all of a's bytes for each tag, with the tag as its immediate if wanted.
  Status write(FakeEnd& from, std::initializer_list<std::uint64_t> tags, bool immediate = false);
  void turn();
  bool until(const std::function<bool()>& condition);  // false after twenty seconds
  void expect_alive(Link ends);
  std::uint64_t counter(int side, const std::string& name) const;  // the sum of those that end so

  SystemClock clock;
  FakeFabric fabric;
  std::unique_ptr<Device> device[2];
  std::unique_ptr<CompletionQueue> queue[2];
  std::vector<std::byte> bytes[2] = {std::vector<std::byte>(64), std::vector<std::byte>(64)};
  std::unique_ptr<MemoryRegion> region[2];
  bool polls[2] = {true, true};  // turn() leaves a queue alone that does not
  std::deque<FakeEnd> ends;

 private:
  const std::size_t fabric_rails_;  // of each device
  std::uint64_t next_tag_ = 1'000'000;
};

}  // namespace penstock::test
