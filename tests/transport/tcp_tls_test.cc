// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Data connections under TLS: who gets in, and what whoever sits on the wire sees and can do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "tests/transport/tcp_raw_peer.h"
#include "transport/base/random.h"

namespace penstock {
namespace {

using ::testing::HasSubstr;

constexpr std::array<unsigned char, 32> kSecret = {1, 2, 3}, kOtherSecret = {3, 2, 1};

TcpOptions encrypted(std::span<const unsigned char> secret = kSecret) {
  TcpOptions options;
  options.encrypt = true;
  options.secret = secret;
  return options;
}

// Two sides that may differ.
struct Sides {
  Sides(const TcpOptions& connecting, const TcpOptions& accepting)
      : a(clock, connecting), b(clock, accepting) {
    a.peer = &b;
    b.peer = &a;
    options.token = random_token();
    b.endpoint = b.device->accept(*b.queue, options).value();
  }
  void connect(const std::string& address) {
    a.endpoint = a.device->connect(*a.queue, address, options).value();
  }
  void expect_refused(Code code, const char* what) {
    connect(b.device->address());
    const auto end = a.wait_for(Event::kDisconnected);
    ASSERT_TRUE(end.has_value());
    const Status status = a.endpoint->status();
    EXPECT_EQ(code_name(status.code()), code_name(code)) << status.to_string();
    EXPECT_THAT(status.what(), HasSubstr(what));
    EXPECT_FALSE(status.hint().empty());
    EXPECT_TRUE(b.events.empty());
    EXPECT_EQ(b.counter("connections_refused"), 1U);
  }

  SystemClock clock;
  TcpSide a, b;
  EndpointOptions options;
};

TEST(TcpTls, AsksForASecret) {
  SystemClock clock;
  auto device = open_tcp_device(encrypted({}), clock);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), Code::kUnauthenticated);
  EXPECT_FALSE(device.status().hint().empty());
  EXPECT_FALSE(open_tcp_device(encrypted(std::span(kSecret).first(15)), clock).ok());
  EXPECT_TRUE(open_tcp_device(encrypted(std::span(kSecret).first(16)), clock).ok());
  TcpOptions both = encrypted();
  both.zerocopy = Zerocopy::kOn;
  EXPECT_EQ(open_tcp_device(both, clock).status().code(), Code::kInvalidArgument);
}

TEST(TcpTls, RefusesAnotherSecret) {
  Sides(encrypted(kOtherSecret), encrypted()).expect_refused(Code::kUnauthenticated, "secret");
}

TEST(TcpTls, RefusesAnotherJob) {
  TcpOptions other = encrypted();
  other.job = "another";
  Sides(other, encrypted()).expect_refused(Code::kUnauthenticated, "secret");
}

TEST(TcpTls, RefusesWhoDoesNotEncrypt) {
  Sides({}, encrypted()).expect_refused(Code::kUnauthenticated, "refused by the peer");
}

TEST(TcpTls, IsNotTalkedIntoGoingWithout) {
  Sides(encrypted(), {}).expect_refused(Code::kConnectionLost, "TLS handshake");
}

TEST(TcpTls, RefusesAWrongTokenBehindTheRightSecret) {
  Sides sides(encrypted(), encrypted());
  sides.options.token = random_token();
  sides.expect_refused(Code::kUnauthenticated, "waits for this token");
}

TEST(TcpTls, MovesTheSameBytesWhileKeysChange) {
  TcpOptions options = encrypted();
  options.tls_rekey_bytes = 64 << 10;
  TcpPair pair(options);
  ASSERT_TRUE(pair.connect());
  SeededRandom random(5);
  for (std::byte& byte : pair.a.bytes) byte = std::byte(random.next());
  constexpr std::uint32_t kPosts = 300;
  for (std::uint32_t i = 0; i < kPosts; ++i) {
    const std::uint64_t length = random.below(random.chance(500'000) ? 500 : 200'000);
    ASSERT_TRUE(
        pair.a.write(pair.b, random.below(pair.a.bytes.size() - length), length, i, i).ok());
  }
  ASSERT_TRUE(pair.a.write(pair.b, 0, pair.a.bytes.size(), kPosts, kPosts).ok());
  for (std::uint32_t i = 0; i <= kPosts; ++i) {
    const auto done = pair.a.wait_for(Event::kWriteDone);
    ASSERT_TRUE(done.has_value());
    ASSERT_EQ(code_name(done->code), code_name(Code::kOk));
    ASSERT_EQ(done->tag, i);
  }
  EXPECT_EQ(pair.a.bytes, pair.b.bytes);
}

// And not where it cannot: either way the same bytes move (above, and in the conformance suite).
TEST(TcpTls, HandsTheSendingKeyToTheKernelWhereThatHasTls) {
  TcpOptions options = encrypted();
  options.tls_offload = true;
  const auto before = std::signal(SIGPIPE, SIG_DFL);
  SystemClock clock;
  const auto deadly = open_tcp_device(options, clock);
  EXPECT_EQ(deadly.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(deadly.status().what(), HasSubstr("SIGPIPE"));
  std::signal(SIGPIPE, SIG_IGN);
  TcpPair pair(options);
  ASSERT_TRUE(pair.connect());
  std::fill_n(pair.a.bytes.begin(), 500'000, std::byte{7});
  ASSERT_TRUE(pair.a.write(pair.b, 0, 500'000, 1).ok());
  ASSERT_TRUE(pair.a.wait_for(Event::kWriteDone).has_value());
  EXPECT_EQ(pair.a.bytes, pair.b.bytes);
  std::ifstream file("/proc/sys/net/ipv4/tcp_available_ulp");
  const std::set<std::string> known{std::istream_iterator<std::string>(file), {}};
  EXPECT_EQ(pair.a.counter("tls_offloaded"), known.count("tls"));
  EXPECT_EQ(pair.b.counter("tls_offloaded"), known.count("tls"));
  pair.a.endpoint.reset();
  pair.b.endpoint.reset();
  std::signal(SIGPIPE, before);
}

TEST(TcpTls, StrangersDoNotStopOthers) {
  Sides sides(encrypted(), encrypted());
  SeededRandom random(6);
  std::vector<std::unique_ptr<RawPeer>> silent;
  for (int i = 0; i < 300; ++i) {
    auto raw = std::make_unique<RawPeer>(sides.b.device->address());
    std::vector<std::byte> noise(1 + random.below(300));
    for (std::byte& byte : noise) byte = std::byte(random.next());
    if (i % 2 == 0) noise[0] = std::byte{0x16};  // begins like TLS
    (void)raw->say(noise);
    if (i % 3 == 0) silent.push_back(std::move(raw));
    sides.b.poll();
  }
  sides.connect(sides.b.device->address());
  ASSERT_TRUE(sides.a.wait_for(Event::kConnected).has_value());
  ASSERT_TRUE(sides.b.wait_for(Event::kConnected).has_value());
  ASSERT_TRUE(sides.a.write(sides.b, 0, 5000, 1).ok());
  ASSERT_TRUE(sides.a.wait_for(Event::kWriteDone).has_value());
}

// Sits on the wire of one connection.
class Eavesdropper {
 public:
  Eavesdropper() : listener_(socket::listen_on("127.0.0.1", 0, {}).value()) {}

  std::string address() const {
    return tcp::device_address("127.0.0.1", socket::bound_port(listener_.get()).value(), false);
  }
  // Carries what came since, both ways.
  void carry(const std::string& target) {
    if (!from_.valid()) {
      from_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!from_.valid()) return;
      to_ = std::make_unique<RawPeer>(target);
    }
    move(from_.get(), to_->fd(), true);
    move(to_->fd(), from_.get(), false);
  }
  void spoil_next() { spoil_ = true; }
  const std::vector<std::byte>& seen() const { return seen_; }

 private:
  void move(int from, int to, bool forth) {
    std::array<std::byte, 4096> bytes;
    const ssize_t got = ::recv(from, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (got <= 0) return;
    const auto part = std::span(bytes).first(static_cast<std::size_t>(got));
    if (forth) seen_.insert(seen_.end(), part.begin(), part.end());
    if (forth && std::exchange(spoil_, false)) part.back() ^= std::byte{1};
    (void)eventually([&] { return ::send(to, part.data(), part.size(), MSG_NOSIGNAL) == got; });
  }

  UniqueFd listener_, from_;
  std::unique_ptr<RawPeer> to_;
  std::vector<std::byte> seen_;
  bool spoil_ = false;
};

class TcpTlsWire : public ::testing::Test {
 protected:
  static constexpr std::size_t kBytes = 1000;

  void connect(const TcpOptions& options) {
    sides_ = std::make_unique<Sides>(options, options);
    std::fill_n(sides_->a.bytes.begin(), kBytes, std::byte{0x5a});
    sides_->connect(wire_.address());
    ASSERT_TRUE(
        until([&] { return sides_->a.endpoint->connected() && sides_->b.endpoint->connected(); }));
    sides_->b.events.clear();
  }
  bool until(const std::function<bool()>& condition) {
    return eventually([&] {
      sides_->a.poll();
      sides_->b.poll();
      wire_.carry(sides_->b.device->address());
      return condition();
    });
  }
  bool in_clear() const {
    const std::vector<std::byte> pattern(100, std::byte{0x5a});
    return std::search(wire_.seen().begin(), wire_.seen().end(), pattern.begin(), pattern.end()) !=
           wire_.seen().end();
  }

  Eavesdropper wire_;
  std::unique_ptr<Sides> sides_;
};

TEST_F(TcpTlsWire, ShowsNothingOfWhatIsWritten) {
  connect(encrypted());
  ASSERT_TRUE(sides_->a.write(sides_->b, 0, kBytes, 1).ok());
  ASSERT_TRUE(until([&] { return !sides_->b.events.empty(); }));
  EXPECT_TRUE(std::equal(sides_->a.bytes.begin(), sides_->a.bytes.begin() + kBytes,
                         sides_->b.bytes.begin()));
  EXPECT_GT(wire_.seen().size(), kBytes);
  EXPECT_FALSE(in_clear());
}

// What the test above would see without TLS.
TEST_F(TcpTlsWire, ShowsEverythingInPlain) {
  connect({});
  ASSERT_TRUE(sides_->a.write(sides_->b, 0, kBytes, 1).ok());
  ASSERT_TRUE(until([&] { return !sides_->b.events.empty(); }));
  EXPECT_TRUE(in_clear());
}

TEST_F(TcpTlsWire, ABitFlippedOnTheWayEndsTheConnectionAndLandsNothing) {
  connect(encrypted());
  wire_.spoil_next();
  ASSERT_TRUE(sides_->a.write(sides_->b, 0, kBytes, 1).ok());
  ASSERT_TRUE(until([&] { return !sides_->b.events.empty(); }));
  EXPECT_EQ(sides_->b.events.front().event, Event::kDisconnected);
  EXPECT_EQ(code_name(sides_->b.endpoint->status().code()), code_name(Code::kProtocol));
  EXPECT_THAT(sides_->b.endpoint->status().what(), HasSubstr("TLS"));
  EXPECT_EQ(std::count(sides_->b.bytes.begin(), sides_->b.bytes.end(), std::byte{0}),
            static_cast<std::ptrdiff_t>(sides_->b.bytes.size()));
}

}  // namespace
}  // namespace penstock
