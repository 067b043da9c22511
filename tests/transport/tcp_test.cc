// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/transport/tcp_pair.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

TEST(TcpDevice, NamesAddressAndPortWhenThePortIsTaken) {
  SystemClock clock;
  auto first = open_tcp_device({}, clock);
  ASSERT_TRUE(first.ok());
  const std::string& address = (*first)->address();
  const auto port = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  auto second = open_tcp_device({.port = port, .advertise_host = {}}, clock);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kAlreadyExists);
  EXPECT_THAT(second.status().to_string(), HasSubstr("127.0.0.1"));
  EXPECT_THAT(second.status().to_string(), HasSubstr(std::to_string(port)));
}

TEST(TcpDevice, AsksForAHostToAdvertiseWhenBoundToEveryInterface) {
  SystemClock clock;
  auto device = open_tcp_device({.bind_address = "0.0.0.0", .advertise_host = {}}, clock);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), Code::kInvalidArgument);
  auto named = open_tcp_device({.bind_address = "0.0.0.0", .advertise_host = "127.0.0.1"}, clock);
  ASSERT_TRUE(named.ok());
  EXPECT_THAT((*named)->address(), ::testing::StartsWith("tcp:127.0.0.1:"));
}

TEST(TcpEndpoint, WritesWithImmediateBothWays) {
  TcpPair pair;
  ASSERT_TRUE(pair.connect());
  for (std::size_t i = 0; i < pair.a.bytes.size(); ++i) pair.a.bytes[i] = std::byte(i * 7);
  for (const std::uint64_t length : {0UL, 1UL, 64UL, 4096UL, 70'000UL, 1UL << 20}) {
    ASSERT_TRUE(pair.a.write(pair.b, 0, length, 5).ok());
    const auto arrived = pair.b.wait_for(Event::kImmediate);
    ASSERT_TRUE(arrived.has_value());
    EXPECT_EQ(arrived->immediate, 5U);
    EXPECT_EQ(arrived->length, length);
    EXPECT_TRUE(std::equal(pair.a.bytes.begin(),
                           pair.a.bytes.begin() + static_cast<std::ptrdiff_t>(length),
                           pair.b.bytes.begin()));
    const auto done = pair.a.wait_for(Event::kWriteDone);
    ASSERT_TRUE(done.has_value());
    EXPECT_EQ(done->code, Code::kOk);
  }
}

}  // namespace
}  // namespace penstock
