// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What the provider asks of the kernel, seen at its sockets and in its counters.
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "tests/transport/tcp_raw_peer.h"

namespace penstock {
namespace {

// Our end of the connection whose other end is `peer`; −1 if there is none.
int other_end_of(int peer) {
  sockaddr_in wanted{}, here{};
  socklen_t length = sizeof wanted;
  CHECK(::getsockname(peer, reinterpret_cast<sockaddr*>(&wanted), &length) == 0);
  rlimit limit{};
  CHECK(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  for (int fd = 0; fd < static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 4096)); ++fd) {
    length = sizeof here;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&here), &length) == 0 &&
        here.sin_port == wanted.sin_port && here.sin_addr.s_addr == wanted.sin_addr.s_addr)
      return fd;
  }
  return -1;
}

int option(int fd, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  CHECK(::getsockopt(fd, level, name, &value, &length) == 0);
  return value;
}

// A device, and a peer that takes nothing it is sent until it wants to.
class TcpSockets : public ::testing::Test {
 protected:
  void open(std::uint32_t most_unsent_bytes) {
    side_ = std::make_unique<TcpSide>(
        clock_, TcpOptions{.advertise_host = {}, .most_unsent_bytes = most_unsent_bytes});
    EndpointOptions options;
    options.token = random_token();
    side_->endpoint = side_->device->accept(*side_->queue, options).value();
    raw_ = std::make_unique<RawPeer>(side_->device->address());
    ASSERT_TRUE(raw_->say_hello(options.token));
    const auto welcome = raw_->hear([this] { side_->poll(); });
    ASSERT_TRUE(welcome.has_value() && welcome->type == tcp::FrameType::kWelcome);
    ASSERT_TRUE(side_->wait_for(Event::kConnected).has_value());
  }
  Status write(std::uint64_t length, std::uint32_t immediate) {
    RemoteRegion remote;
    remote.providers = provider_bit(ProviderKind::kTcp);
    return side_->endpoint->post({.opcode = Opcode::kWrite,
                                  .has_immediate = true,
                                  .immediate = immediate,
                                  .local = side_->region.get(),
                                  .length = length,
                                  .remote = &remote});
  }
  // Posts 64 MiB and polls until the kernel takes no more. Returns what it holds unsent.
  int unsent_when_blocked() {
    for (std::uint32_t i = 0; i < 64; ++i) EXPECT_TRUE(write(1 << 20, i).ok());
    int unsent = -1;
    std::uint64_t sent = 0;
    (void)eventually([&] {
      for (int i = 0; i < 100; ++i) side_->poll();
      CHECK(::ioctl(other_end_of(raw_->fd()), SIOCOUTQNSD, &unsent) == 0);
      return std::exchange(sent, side_->counter("bytes_sent")) == sent;
    });
    EXPECT_LT(sent, 64U << 20);
    return unsent;
  }
  // Takes in everything up to the frame with this immediate; how many payload bytes that was.
  std::uint64_t bytes_before(std::uint32_t immediate) {
    std::uint64_t passed = 0;
    std::vector<std::byte> payload(1 << 20);
    for (;;) {
      const auto header = raw_->hear([this] { side_->poll(); });
      if (!header.has_value() || header->immediate == immediate) return passed;
      std::uint64_t left = header->length;
      EXPECT_TRUE(eventually([&] {
        side_->poll();
        const ssize_t got = ::recv(raw_->fd(), payload.data(), left, MSG_DONTWAIT);
        if (got > 0) left -= static_cast<std::uint64_t>(got);
        return left == 0;
      }));
      passed += header->length;
    }
  }

  SystemClock clock_;
  std::unique_ptr<TcpSide> side_;
  std::unique_ptr<RawPeer> raw_;
};

TEST_F(TcpSockets, BothEndsHaveTheOptionsThatKeepThemFastAndMortal) {
  open(96 << 10);
  TcpPair pair({.advertise_host = {}, .most_unsent_bytes = 96 << 10});
  ASSERT_TRUE(pair.connect());
  const int accepted = other_end_of(raw_->fd());
  ASSERT_GE(accepted, 0);
  std::size_t ends = 0;
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_in peer{};
    socklen_t length = sizeof peer;
    if (fd == raw_->fd() || ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0)
      continue;
    ++ends;
    EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 96 << 10);
    EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 10'000);
    EXPECT_EQ(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 5);
    EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 2);
    EXPECT_EQ(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
  }
  EXPECT_EQ(ends, 3U);
}

// The kernel fills a buffer by whole packets: one may lie across the limit.
constexpr int kPacketBytes = 64 << 10;

TEST_F(TcpSockets, TheKernelHoldsLittleThatIsUnsent) {
  open(128 << 10);
  const int unsent = unsent_when_blocked();
  EXPECT_GT(unsent, 0);
  EXPECT_LE(unsent, (128 << 10) + 2 * kPacketBytes);
  // A small write posted now overtakes nothing: it arrives behind all of the 64.
  ASSERT_TRUE(write(100, 1000).ok());
  EXPECT_EQ(bytes_before(1000), 64U << 20);
}

// What the test above would see if the option did nothing.
TEST_F(TcpSockets, WithoutTheLimitItHoldsMuchMore) {
  open(0);
  EXPECT_GT(unsent_when_blocked(), 4 * ((128 << 10) + 2 * kPacketBytes));
}

TEST_F(TcpSockets, CountsWhatItSendsAndManyFramesPerCall) {
  TcpPair pair;
  ASSERT_TRUE(pair.connect());
  const std::uint64_t calls = pair.a.counter("send_calls"), frames = pair.a.counter("frames_sent"),
                      bytes = pair.a.counter("bytes_sent"),
                      arrived = pair.b.counter("frames_received"),
                      received = pair.b.counter("bytes_received");
  constexpr std::uint32_t kPosts = 60;
  for (std::uint32_t i = 0; i < kPosts; ++i)
    ASSERT_TRUE(pair.a.write(pair.b, i * 100, 100, i).ok());
  for (std::uint32_t i = 0; i < kPosts; ++i)
    ASSERT_TRUE(pair.a.wait_for(Event::kWriteDone).has_value());
  EXPECT_EQ(pair.a.counter("frames_sent") - frames, kPosts);
  EXPECT_EQ(pair.a.counter("bytes_sent") - bytes, kPosts * (100 + tcp::kHeaderBytes));
  EXPECT_EQ(pair.a.counter("send_calls") - calls, 1U);
  EXPECT_EQ(pair.b.counter("frames_received") - arrived, kPosts);
  EXPECT_EQ(pair.b.counter("bytes_received") - received, kPosts * (100 + tcp::kHeaderBytes));
  EXPECT_GE(pair.b.counter("acks_sent"), 1U);
}

}  // namespace
}  // namespace penstock
