// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// auto keeps the contract of what it chose, and says what it chose and why.

#include "transport/auto/device.h"

#include <gmock/gmock.h>

#include <array>
#include <thread>

#include "tests/support/fake_cuda/fake_cuda.h"
#include "tests/transport/conformance.h"
#include "transport/auto/region.h"
#include "transport/loopback/fabric.h"
#include "transport/providers.h"
#include "transport/shm/device.h"
#include "transport/tcp/device.h"
#include "transport/tcp/frame.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::unique_ptr<Device> open_tcp(Incarnation incarnation, const Clock& clock) {
  return open_tcp_device({.advertise_host = {},
                          .incarnation = incarnation,
                          .hello_timeout_ns = 500 * kMillisecond},
                         clock)
      .value();
}

// Both directions of a choice: loopback first, or loopback known to fail.
class AutoHarness final : public DeviceHarness {
 public:
  explicit AutoHarness(bool loopback_first) : loopback_first_(loopback_first) {}
  const Clock& clock() const override { return clock_; }
  Result<std::unique_ptr<Device>> create_device(Incarnation incarnation) override {
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(open_tcp(incarnation, clock_));
    devices.insert(loopback_first_ ? devices.begin() : devices.end(),
                   fabric_.create_device(incarnation));
    return create_auto_device(std::move(devices), {});
  }
  bool maps(const Device& /*device*/) const override { return loopback_first_; }
  std::uint32_t longest_message(const Device& device) const override {
    return loopback_first_ ? device.capabilities().max_message_bytes : tcp::kMaxMessageBytes;
  }
  void step() override { std::this_thread::yield(); }

 private:
  const bool loopback_first_;
  SystemClock clock_;
  LoopbackFabric fabric_{clock_};
};

INSTANTIATE_TEST_SUITE_P(
    Auto, DeviceConformance,
    testing::Values(Provider{"loopback_first", [] { return std::make_unique<AutoHarness>(true); }},
                    Provider{"tcp_first", [] { return std::make_unique<AutoHarness>(false); }}),
    name_of);

struct AutoTest : testing::Test {
  std::unique_ptr<Device> both() {
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(fabric.create_device(7));
    devices.push_back(open_tcp(7, clock));
    return create_auto_device(std::move(devices), {{ProviderKind::kVerbs,
                                                    Status(Code::kUnsupported, "no RDMA device")}})
        .value();
  }
  SystemClock clock;
  LoopbackFabric fabric{clock};
};

TEST_F(AutoTest, TakesTheFirstThatBothSidesHave) {
  const auto here = both(), there = both();
  const Route route = here->route(there->address()).value();
  EXPECT_EQ(route.provider, ProviderKind::kLoopback);
  EXPECT_THAT(route.why, StartsWith("loopback to loopback:2"));
  EXPECT_THAT(route.why, HasSubstr("not verbs: unsupported: no RDMA device"));
}

TEST_F(AutoTest, SpeaksToAPeerOfOneTransport) {
  const auto here = both(), there = open_tcp(9, clock);
  const Route route = here->route(there->address()).value();
  EXPECT_EQ(route.provider, ProviderKind::kTcp);
  EXPECT_THAT(route.why, HasSubstr("not loopback: the peer does not offer it"));
}

TEST_F(AutoTest, AvoidsWhatFailedUntilEverythingHas) {
  const auto here = both(), there = both();
  here->avoid(there->address(), ProviderKind::kLoopback, Status(Code::kTimeout, "nobody came"));
  const Route second = here->route(there->address()).value();
  EXPECT_EQ(second.provider, ProviderKind::kTcp);
  EXPECT_THAT(second.why, HasSubstr("not loopback: timeout: nobody came"));
  here->avoid(there->address(), ProviderKind::kTcp, Status(Code::kTimeout, "nobody came"));
  EXPECT_EQ(here->route(there->address()).value().provider, ProviderKind::kLoopback);
}

TEST_F(AutoTest, NamesBothSidesWhenTheyShareNothing) {
  const auto here = open_tcp(1, clock);
  const auto alone = fabric.create_device(2);
  std::vector<std::unique_ptr<Device>> devices;
  devices.push_back(open_tcp(1, clock));
  const auto only_tcp = create_auto_device(std::move(devices), {}).value();
  const Status status = only_tcp->route(alone->address()).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr(alone->address()));
  EXPECT_THAT(status.to_string(), HasSubstr("not tcp: the peer does not offer it"));
}

// Any of its transports may be the way to a peer, so all of them must take the memory.
TEST_F(AutoTest, TakesGpuMemoryWhereEveryTransportDoes) {
  FakeCuda cuda;
  const std::span<std::byte> buffer = cuda.allocate(64);
  for (const bool with_tcp : {false, true}) {
    std::vector<std::unique_ptr<Device>> devices;
    devices.push_back(open_shm_device({.cuda = &cuda.driver()}, clock).value());
    if (with_tcp) devices.push_back(open_tcp(7, clock));
    const auto device = create_auto_device(std::move(devices), {}).value();
    const auto region = device->register_memory(buffer, MemoryKind::kCuda, Access::kMap);
    if (!with_tcp) {
      EXPECT_EQ(region.value()->kind(), MemoryKind::kCuda);
      continue;
    }
    EXPECT_EQ(region.status().code(), Code::kUnsupported);
    EXPECT_THAT(region.status().what(), HasSubstr("tcp takes host memory only"));
    EXPECT_EQ(cuda.retained(), 0) << "what shm had of it is given back";
  }
}

// A part of a region whose flush() counts, or fails.
class FlushedRegion final : public MemoryRegion {
 public:
  FlushedRegion(int& flushes, bool fails) : flushes_(flushes), fails_(fails) {}
  std::span<std::byte> bytes() const override { return {}; }
  const RemoteRegion& describe() const override { return description_; }
  Status flush() const override {
    ++flushes_;
    return fails_ ? Status(Code::kStale, "freed") : Status();
  }

 private:
  int& flushes_;
  const bool fails_;
  const RemoteRegion description_;
};

TEST(AutoRegion, FlushesEveryPartAndSaysWhenOneFails) {
  int flushes = 0;
  const auto of = [&](bool fails) {
    std::vector<std::unique_ptr<MemoryRegion>> parts;
    parts.push_back(std::make_unique<FlushedRegion>(flushes, false));
    parts.push_back(std::make_unique<FlushedRegion>(flushes, fails));
    return automatic::AutoRegion(std::move(parts)).flush().code();
  };
  EXPECT_EQ(of(false), Code::kOk);
  EXPECT_EQ(flushes, 2);
  EXPECT_EQ(of(true), Code::kStale);
}

TEST_F(AutoTest, RefusesTwoOfAKind) {
  std::vector<std::unique_ptr<Device>> devices;
  devices.push_back(open_tcp(1, clock));
  devices.push_back(open_tcp(1, clock));
  EXPECT_EQ(create_auto_device(std::move(devices), {}).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(create_auto_device({}, {}).status().code(), Code::kInvalidArgument);
}

constexpr std::array<unsigned char, 16> kSecret = {1, 2, 3};

Result<std::unique_ptr<Device>> open(const char* provider, const DataOptions& data,
                                     const Clock& clock,
                                     std::span<const unsigned char> secret = kSecret) {
  DeviceOptions options;
  options.provider = provider;
  options.data = data;
  options.secret = secret;
  return open_device(options, clock);
}

TEST(Encrypted, AutoLeavesOutWhoeverDoesNotAndSaysSo) {
  SystemClock clock;
  const auto here = open("auto", {.encrypt = true}, clock).value();
  const auto there = open("tcp", {.encrypt = true}, clock).value();
  const Route route = here->route(there->address()).value();
  EXPECT_EQ(route.provider, ProviderKind::kTcp);
  EXPECT_THAT(route.why, HasSubstr("encrypted, TLS 1.3"));
  EXPECT_THAT(route.why, HasSubstr("not verbs: unsupported: verbs does not encrypt"));
}

TEST(Encrypted, BothSidesOrNone) {
  SystemClock clock;
  const auto yes = open("auto", {.encrypt = true}, clock).value();
  const auto no = open("tcp", {}, clock).value();
  EXPECT_THAT(yes->route(no->address()).status().to_string(),
              HasSubstr("this process encrypts data and the peer does not"));
  const Status status =
      no->route(open("tcp", {.encrypt = true}, clock).value()->address()).status();
  EXPECT_EQ(code_name(status.code()), code_name(Code::kUnauthenticated));
  EXPECT_THAT(status.what(), HasSubstr("the peer encrypts data and this process does not"));
  EXPECT_THAT(status.hint(), HasSubstr("--encrypt"));
}

TEST(Encrypted, WhatCannotIsRefusedByName) {
  SystemClock clock;
  for (const char* provider : {"verbs", "ucx"}) {
    const Status status = open(provider, {.encrypt = true}, clock).status();
    EXPECT_EQ(code_name(status.code()), code_name(Code::kUnsupported));
    EXPECT_THAT(status.what(), HasSubstr(std::string(provider) + " does not encrypt"));
    EXPECT_THAT(status.hint(), HasSubstr("--transport tcp"));
  }
}

TEST(Encrypted, AsksForASecretAndForOptionsThatGoTogether) {
  SystemClock clock;
  const auto code = [&](const DataOptions& data, std::span<const unsigned char> secret = kSecret) {
    return code_name(open("auto", data, clock, secret).status().code());
  };
  EXPECT_EQ(code({.encrypt = true}, {}), code_name(Code::kUnauthenticated));
  EXPECT_EQ(code({.kernel_tls = true}), code_name(Code::kInvalidArgument));
  EXPECT_EQ(code({.encrypt = true, .zerocopy = true}), code_name(Code::kInvalidArgument));
  EXPECT_EQ(code({.zerocopy = true}), code_name(Code::kOk));
}

}  // namespace
}  // namespace penstock::test
