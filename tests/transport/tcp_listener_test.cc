// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Connections before they are authenticated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/transport/tcp_raw_peer.h"
#include "transport/base/random.h"

namespace penstock {
namespace {

// A device whose clock the test owns, and one on the system's clock that connects to it.
class TcpListener : public ::testing::Test {
 protected:
  EndpointOptions options(const Token& token) const {
    EndpointOptions made;
    made.token = token;
    return made;
  }
  void accept(const Token& token) {
    server_.endpoint = server_.device->accept(*server_.queue, options(token)).value();
  }
  void connect(const Token& token) {
    client_.endpoint = std::move(
        client_.device->connect(*client_.queue, server_.device->address(), options(token)).value());
    client_.peer = &server_;
    server_.peer = &client_;
  }
  void expect_connected() {
    EXPECT_TRUE(client_.wait_for(Event::kConnected).has_value());
    EXPECT_TRUE(server_.wait_for(Event::kConnected).has_value());
  }
  void expect_client_ends(Code code) {
    const auto end = client_.wait_for(Event::kDisconnected);
    ASSERT_TRUE(end.has_value());
    EXPECT_EQ(code_name(end->code), code_name(code));
    EXPECT_EQ(code_name(client_.endpoint->status().code()), code_name(code));
  }

  ManualClock manual_{kSecond};
  SystemClock system_;
  TcpSide server_{manual_}, client_{system_};
  std::function<void()> drive_ = [this] { server_.poll(); };
};

// At once: the device's clock stands still.
TEST_F(TcpListener, RefusesATokenNobodyWaitsForAndSaysSo) {
  accept(random_token());
  connect(random_token());
  expect_client_ends(Code::kUnauthenticated);
  EXPECT_THAT(client_.endpoint->status().what(), ::testing::HasSubstr("waits for this token"));
  EXPECT_FALSE(client_.endpoint->status().hint().empty());
  EXPECT_FALSE(server_.endpoint->connected());
  EXPECT_TRUE(server_.events.empty());
  EXPECT_EQ(server_.counter("connections_refused"), 1U);
}

TEST_F(TcpListener, RefusesAUsedTokenAtOnce) {
  const Token token = random_token();
  accept(token);
  connect(token);
  expect_connected();
  connect(token);
  expect_client_ends(Code::kUnauthenticated);
}

TEST_F(TcpListener, RefusesTwoAcceptorsOfOneToken) {
  const Token token = random_token();
  accept(token);
  const auto second = server_.device->accept(*server_.queue, options(token));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kAlreadyExists);
  connect(token);
  expect_connected();
}

TEST_F(TcpListener, AnEndpointThatWentAwayIsNotHandedAConnection) {
  const Token token = random_token();
  accept(token);
  server_.endpoint.reset();
  connect(token);
  expect_client_ends(Code::kUnauthenticated);
}

TEST_F(TcpListener, TakesAHelloByteByByte) {
  const Token token = random_token();
  accept(token);
  RawPeer raw(server_.device->address());
  for (const std::byte byte : RawPeer::hello(token)) {
    ASSERT_TRUE(raw.say({&byte, 1}));
    server_.poll();
  }
  EXPECT_TRUE(server_.wait_for(Event::kConnected).has_value());
}

TEST_F(TcpListener, TimesOutAHelloThatDoesNotEnd) {
  const Token token = random_token();
  accept(token);
  RawPeer raw(server_.device->address());
  const std::vector<std::byte> hello = RawPeer::hello(token);
  // A byte a second: each wins no new time.
  for (std::size_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(raw.say({&hello[i], 1}));
    for (int turn = 0; turn < 10; ++turn) server_.poll();
    manual_.advance(kSecond);
  }
  manual_.advance(2 * kSecond);
  EXPECT_TRUE(raw.closed(drive_));
  EXPECT_FALSE(server_.endpoint->connected());
}

TEST_F(TcpListener, ClosesWhoeverSpeaksAnotherProtocol) {
  for (const std::string_view text :
       {"GET / HTTP/1.1\r\nHost: penstock.example.org\r\nUser-Agent: somebody else\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 and something to make it sixty-four bytes\r\n"}) {
    RawPeer raw(server_.device->address());
    ASSERT_TRUE(raw.say(std::as_bytes(std::span(text))));
    EXPECT_TRUE(raw.closed(drive_));
  }
}

TEST_F(TcpListener, ClosesOnHellosThatAreNot) {
  const auto expect_closed = [this](tcp::FrameHeader header) {
    RawPeer raw(server_.device->address());
    ASSERT_TRUE(raw.say(sealed(header)));
    EXPECT_TRUE(raw.closed(drive_));
  };
  const tcp::FrameHeader good{
      .type = tcp::FrameType::kHello, .incarnation = 7, .length = 16, .immediate = 1};
  tcp::FrameHeader bad = good;
  bad.length = 15;
  expect_closed(bad);
  bad.length = std::uint64_t{1} << 40;
  expect_closed(bad);
  bad = good;
  bad.immediate = 0;
  expect_closed(bad);
  bad.immediate = tcp::kMaxSendDepth + 1;
  expect_closed(bad);
  bad = good;
  bad.incarnation = 0;
  expect_closed(bad);
  bad = good;
  bad.type = tcp::FrameType::kWrite;
  bad.sequence = 1;
  expect_closed(bad);
}

TEST_F(TcpListener, AThousandStrangersDoNotStopOthers) {
  const Token first = random_token();
  accept(first);
  connect(first);
  expect_connected();
  SeededRandom random(42);
  std::vector<std::unique_ptr<RawPeer>> silent;
  for (int i = 0; i < 1000; ++i) {
    auto raw = std::make_unique<RawPeer>(server_.device->address());
    std::vector<std::byte> noise(random.below(200));
    for (std::byte& byte : noise) byte = std::byte(random.next());
    if (!noise.empty()) (void)raw->say(noise);  // may be closed already
    // A few stay without a word, more than may wait.
    if (i % 5 == 0) silent.push_back(std::make_unique<RawPeer>(server_.device->address()));
    if (i % 100 == 99) {
      ASSERT_TRUE(client_.write(server_, 0, 5000, 1).ok());
      ASSERT_TRUE(server_.wait_for(Event::kImmediate).has_value());
      ASSERT_TRUE(client_.wait_for(Event::kWriteDone).has_value());
    }
    server_.poll();
  }
  // Expect a newcomer with the right token to get in past the silent ones.
  const Token token = random_token();
  auto newcomer = server_.device->accept(*server_.queue, options(token)).value();
  RawPeer raw(server_.device->address());
  ASSERT_TRUE(raw.say_hello(token));
  ASSERT_TRUE(server_.wait_for(Event::kConnected).has_value());
  EXPECT_TRUE(newcomer->connected());
}

// One after the other, each answered before the next; ten thousand on the way to nowhere.
TEST_F(TcpListener, TenThousandConnectionsWithGarbageConcernNobodyElse) {
  constexpr std::uint64_t kStrangers = 10'000;
  const Token token = random_token();
  accept(token);
  connect(token);
  expect_connected();
  SeededRandom random(7);
  std::array<std::byte, 200> noise;
  const linger reset{1, 0};  // leaves no port waiting
  for (std::uint64_t i = 0; i < kStrangers; ++i) {
    RawPeer raw(server_.device->address());
    ASSERT_EQ(::setsockopt(raw.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    for (std::byte& byte : noise) byte = std::byte(random.next());
    ASSERT_TRUE(raw.say(std::span(noise).first(tcp::kHeaderBytes + random.below(100))));
    ASSERT_TRUE(raw.closed(drive_)) << i;
    if (i % 1000 != 0) continue;
    ASSERT_TRUE(client_.write(server_, 0, 5000, 1).ok());
    ASSERT_TRUE(server_.wait_for(Event::kImmediate).has_value());
    ASSERT_TRUE(client_.wait_for(Event::kWriteDone).has_value());
  }
  EXPECT_EQ(server_.counter("connections_refused"), kStrangers);
  // Expect a newcomer with the right token to get in.
  const Token other = random_token();
  auto newcomer = server_.device->accept(*server_.queue, options(other)).value();
  RawPeer raw(server_.device->address());
  ASSERT_TRUE(raw.say_hello(other));
  ASSERT_TRUE(server_.wait_for(Event::kConnected).has_value());
}

TEST_F(TcpListener, ReportsAnAcceptThatNobodyAnswersAtItsDeadline) {
  EndpointOptions made = options(random_token());
  made.deadline_ns = manual_.now_ns() + 3 * kSecond;
  server_.endpoint = server_.device->accept(*server_.queue, made).value();
  manual_.advance(3 * kSecond - 1);
  server_.poll();
  EXPECT_TRUE(server_.events.empty());
  manual_.advance(1);
  const auto end = server_.wait_for(Event::kDisconnected);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code, Code::kTimeout);
}

TEST_F(TcpListener, ReportsAConnectThatIsNotWelcomedAtItsDeadline) {
  EndpointOptions made = options(random_token());
  made.deadline_ns = manual_.now_ns() + 3 * kSecond;
  // To itself: nobody calls progress(), so the hello is never read.
  auto endpoint =
      std::move(server_.device->connect(*server_.queue, server_.device->address(), made).value());
  std::array<Completion, 4> out;
  for (int i = 0; i < 100; ++i) ASSERT_EQ(server_.queue->poll(out), 0U);
  manual_.advance(3 * kSecond);
  ASSERT_EQ(server_.queue->poll(out), 1U);
  EXPECT_EQ(out[0].event, Event::kDisconnected);
  EXPECT_EQ(out[0].code, Code::kTimeout);
}

TEST_F(TcpListener, NamesTheSystemErrorWhenNobodyListens) {
  std::string address;
  {
    TcpSide gone{system_};
    address = gone.device->address();
  }
  client_.endpoint =
      std::move(client_.device->connect(*client_.queue, address, options(random_token())).value());
  const auto end = client_.wait_for(Event::kDisconnected);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code, Code::kConnectionLost);
  const Status status = client_.endpoint->status();
  EXPECT_EQ(status.system_error(), ECONNREFUSED);
  EXPECT_EQ(status.peer(), address);
  EXPECT_FALSE(status.hint().empty());
}

TEST_F(TcpListener, RefusesAddressesThatAreNone) {
  for (const char* address :
       {"", "tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:", "tcp:127.0.0.1:0", "tcp:127.0.0.1:65536",
        "tcp:127.0.0.1:12x", "tcp:name:1", "loopback:127.0.0.1:1", "tcp:[::1:5"}) {
    const auto endpoint = client_.device->connect(*client_.queue, address, options({}));
    ASSERT_FALSE(endpoint.ok()) << address;
    EXPECT_EQ(endpoint.status().code(), Code::kInvalidArgument) << address;
  }
}

}  // namespace
}  // namespace penstock
