// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Strangers and broken peers close at most their own connection.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>
#include <filesystem>

#include "tests/transport/control_support.h"
#include "transport/base/random.h"
#include "transport/control/channel.h"

namespace penstock::control {
namespace {

using std::literals::operator""sv;
using testing::HasSubstr;

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

Bytes tls_record(std::size_t claimed, std::size_t sent) {
  Bytes record(5 + sent, std::byte{1});
  record[0] = std::byte{0x16};
  record[1] = record[2] = std::byte{3};
  record[3] = static_cast<std::byte>(claimed >> 8);
  record[4] = static_cast<std::byte>(claimed & 0xff);
  return record;
}

class ControlStrangers : public testing::Test {
 protected:
  ControlStrangers() {
    server_.answer = [this](ChannelId id, const Bytes& frame) {
      EXPECT_TRUE(server_.hub->send(id, frame).ok());
    };
  }
  void TearDown() override {
    EXPECT_TRUE(server_.closed.empty());
    EXPECT_EQ(server_.accepted.size(), good_.connected.size());
  }

  // A frame there and back on the good channel.
  void expect_echo(const Link& channel) {
    const std::size_t before = good_.frames[channel.near].size();
    ASSERT_TRUE(good_.hub->send(channel.near, random_body(1000, before)).ok());
    ASSERT_TRUE(
        until({&server_, &good_}, [&] { return good_.frames[channel.near].size() > before; }));
    EXPECT_EQ(good_.frames[channel.near].back(), random_body(1000, before));
  }

  // The first flight of an honest client.
  Bytes client_hello() {
    UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const SocketAddress any = resolve("127.0.0.1:0").value().front();
    EXPECT_EQ(::bind(listener.get(), any.get(), any.length), 0);
    EXPECT_EQ(::listen(listener.get(), 1), 0);
    Party client(with_secret(secret_), clock_);
    EXPECT_TRUE(client.hub->connect(to_text(local_address(listener.get())), kNever).ok());
    settle({&client});
    const UniqueFd accepted(::accept(listener.get(), nullptr, nullptr));
    Bytes hello(4096);
    const ssize_t got = ::recv(accepted.get(), hello.data(), hello.size(), MSG_DONTWAIT);
    EXPECT_GT(got, 100);
    hello.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    return hello;
  }

  const Secret secret_ = Secret::random();
  LogCapture log_;
  ManualClock clock_;
  Party server_{with_secret(secret_), clock_}, good_{with_secret(secret_), clock_};
  const std::string address_ = server_.listen();
};

TEST_F(ControlStrangers, AThousandWithGarbageDoNotDisturbAGoodChannel) {
  const Link channel = link(good_, server_, address_, clock_);
  const std::size_t before = open_descriptors();
  SeededRandom random(1);
  const std::vector<Bytes> garbage = {bytes_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                                      random_body(100, 1),
                                      tls_record(200, 200),
                                      tls_record(0, 0),
                                      bytes_of("\x16"),
                                      Bytes{},
                                      Bytes(20'000, std::byte{0x16})};
  for (int round = 0; round < 50; ++round) {
    std::vector<Stranger> strangers;
    for (int i = 0; i < 20; ++i) {
      strangers.emplace_back(address_);
      const Bytes& bytes = garbage[random.below(garbage.size())];
      if (!bytes.empty()) (void)strangers.back().say(bytes);
    }
    expect_echo(channel);
  }
  EXPECT_TRUE(until({&server_, &good_}, [&] { return open_descriptors() == before; }));
  // Expect: one line about a thousand strangers.
  EXPECT_EQ(log_.lines(), 1U) << log_.text();
}

TEST_F(ControlStrangers, SilentOnesHoldAPlaceForFiveSeconds) {
  std::vector<Stranger> strangers;
  for (int i = 0; i < 20; ++i) strangers.emplace_back(address_);
  settle({&server_});
  clock_.advance(5 * kSecond - 1);
  settle({&server_});
  for (const Stranger& stranger : strangers) EXPECT_FALSE(stranger.turned_away());
  EXPECT_EQ(server_.hub->next_deadline_ns(), 5 * kSecond);
  clock_.advance(1);
  settle({&server_});
  for (const Stranger& stranger : strangers) EXPECT_TRUE(stranger.turned_away());
  EXPECT_EQ(server_.hub->next_deadline_ns(), kNever);
}

TEST_F(ControlStrangers, TheOldestMakesRoomForTheNext) {
  std::vector<Stranger> strangers;
  for (int i = 0; i < 130; ++i) strangers.emplace_back(address_);
  settle({&server_});
  for (std::size_t i = 0; i < 130; ++i) EXPECT_EQ(strangers[i].turned_away(), i < 2) << i;
  // Expect: a full house keeps nobody out who knows the secret.
  expect_echo(link(good_, server_, address_, clock_));
  EXPECT_TRUE(strangers[2].turned_away());
  EXPECT_FALSE(strangers[3].turned_away());
}

TEST_F(ControlStrangers, OneByteASecondIsTooSlow) {
  const Bytes hello = client_hello();
  const Stranger slow(address_);
  for (std::size_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(slow.say(std::span(hello).subspan(i, 1)));
    settle({&server_});
    EXPECT_FALSE(slow.turned_away());
    clock_.advance(kSecond);
  }
  settle({&server_});
  EXPECT_TRUE(slow.turned_away());
}

TEST_F(ControlStrangers, MayNotSayMuchBeforeTheyAreKnown) {
  const Stranger eloquent(address_);
  ASSERT_TRUE(eloquent.say(tls_record(16'384, 8'000)));
  settle({&server_});
  EXPECT_TRUE(eloquent.turned_away());
  EXPECT_THAT(log_.text(), HasSubstr("too much before it was authenticated"));
}

TEST_F(ControlStrangers, AReplayedHelloLeadsNowhere) {
  const Bytes hello = client_hello();
  const Stranger first(address_), second(address_);
  ASSERT_TRUE(first.say(hello));
  ASSERT_TRUE(second.say(hello));
  settle({&server_});
  // Expect: answers that need the client's private key to go on with, and differ.
  const std::string one = first.hear(1000), other = second.hear(1000);
  ASSERT_GT(one.size(), 100U);
  EXPECT_NE(one, other);
  EXPECT_TRUE(server_.accepted.empty());
  // Say what an honest client might say next, without the key.
  ASSERT_TRUE(first.say(tls_record(64, 64)));
  settle({&server_});
  EXPECT_TRUE(first.turned_away());
  clock_.advance(5 * kSecond);
  settle({&server_});
  EXPECT_TRUE(second.turned_away());
}

TEST_F(ControlStrangers, AFlippedBitInTheHelloIsRefused) {
  const Bytes hello = client_hello();
  SeededRandom random(7);
  for (int i = 0; i < 100; ++i) {
    Bytes bent = hello;
    bent[random.below(bent.size())] ^= static_cast<std::byte>(1U << random.below(8));
    const Stranger stranger(address_);
    ASSERT_TRUE(stranger.say(bent));
    (void)server_.poll();
  }
  clock_.advance(5 * kSecond);
  settle({&server_});
  EXPECT_EQ(server_.hub->next_deadline_ns(), kNever);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kChecksNeedDescriptors = true;  // UBSan's vptr check opens one to look at memory
#else
constexpr bool kChecksNeedDescriptors = false;
#endif

TEST_F(ControlStrangers, WaitWhileThereAreNoDescriptors) {
  if (kChecksNeedDescriptors)
    GTEST_SKIP() << "the sanitizer needs a descriptor; all are taken here";
  const Stranger stranger(address_);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  const UniqueFd lowest(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  none.rlim_cur = static_cast<rlim_t>(lowest.get());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  (void)server_.poll();
  const TimeNs resume_ns = server_.hub->next_deadline_ns();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(resume_ns, 100 * kMillisecond);
  EXPECT_THAT(log_.text(), HasSubstr("Too many open files"));
  // Expect: it is taken in when the pause is over.
  (void)server_.poll();
  EXPECT_EQ(server_.hub->next_deadline_ns(), resume_ns);
  clock_.advance(100 * kMillisecond);
  settle({&server_});
  expect_echo(link(good_, server_, address_, clock_));
}

// Peers that know the secret, or need none, and misbehave afterwards.
class ControlBrokenPeers : public testing::TestWithParam<bool> {
 protected:
  ControlBrokenPeers() {
    if (GetParam()) context_.tls = TlsContext::create(secret_, TlsHubOptions().job).value();
    context_.handshake_bytes = 4096;
  }

  // A socket past its handshake with the server, to be written to by hand.
  void join() {
    socket_ = std::make_unique<Stranger>(address_);
    ASSERT_EQ(::fcntl(socket_->fd(), F_SETFL, O_NONBLOCK), 0);
    stream_ = context_.make_stream(socket_->fd(), Side::kConnecting);
    Io io = Io::kBlocked;
    ASSERT_TRUE(until({&server_}, [&] {
      if (io == Io::kBlocked) io = stream_->handshake();
      return io != Io::kBlocked && !server_.accepted.empty();
    }));
    ASSERT_EQ(io, Io::kOk) << stream_->error().to_string();
  }
  void say(std::span<const std::byte> bytes) {
    std::size_t moved = 0;
    ASSERT_EQ(stream_->write(bytes, moved), Io::kOk);
    ASSERT_EQ(moved, bytes.size());
  }
  // Says `header` and gives why the server closed; nothing may have been delivered.
  Status answer_to(const FrameHeader& header) {
    join();
    say(header);
    EXPECT_TRUE(until({&server_}, [&] { return !server_.closed.empty(); }));
    EXPECT_TRUE(server_.frames.empty());
    return server_.closed_with();
  }

  const Secret secret_ = Secret::random();
  ManualClock clock_;
  Party server_{GetParam() ? with_secret(secret_) : insecurely(), clock_};
  const std::string address_ = server_.listen();
  ChannelContext context_;
  std::unique_ptr<Stranger> socket_;
  std::unique_ptr<Stream> stream_;
};
INSTANTIATE_TEST_SUITE_P(, ControlBrokenPeers, testing::Bool(),
                         [](const auto& of) { return of.param ? "Tls" : "Plain"; });

TEST_P(ControlBrokenPeers, OversizedLength) {
  EXPECT_EQ(answer_to(encode_frame_header(kMaxControlFrameBytes + 1)).code(), Code::kProtocol);
}

TEST_P(ControlBrokenPeers, UnknownFlags) {
  EXPECT_EQ(answer_to(encode_frame_header(4, 1)).code(), Code::kProtocol);
}

TEST_P(ControlBrokenPeers, AnotherVersion) {
  FrameHeader header = encode_frame_header(4);
  header[4] = std::byte{9};
  const Status why = answer_to(header);
  EXPECT_EQ(why.code(), Code::kProtocol);
  EXPECT_THAT(why.what(), HasSubstr("version 9, this side has 1"));
}

TEST_P(ControlBrokenPeers, HalfAFrameThenTheEnd) {
  join();
  say(encode_frame_header(10));
  say(random_body(4, 1));
  settle({&server_});
  EXPECT_TRUE(server_.closed.empty());
  stream_->finish();
  socket_.reset();
  EXPECT_TRUE(until({&server_}, [&] { return !server_.closed.empty(); }));
  EXPECT_TRUE(server_.frames.empty());
  EXPECT_EQ(server_.closed_with().code(), Code::kConnectionLost);
  EXPECT_THAT(server_.closed_with().what(), HasSubstr("in the middle of a frame"));
}

TEST_P(ControlBrokenPeers, OneByteAtATimeIsSlowButRight) {
  join();
  for (const std::byte byte : encode_frame_header(3)) say({&byte, 1});
  for (const std::byte byte : bytes_of("abc")) say({&byte, 1});
  EXPECT_TRUE(until({&server_}, [&] { return !server_.frames.empty(); }));
  EXPECT_EQ(server_.frames.begin()->second.front(), bytes_of("abc"));
}

TEST_P(ControlBrokenPeers, AResetIsNoticedAndWritingToItRaisesNoSignal) {
  join();
  const ChannelId id = server_.accepted.front();
  const linger now{1, 0};
  ASSERT_EQ(::setsockopt(socket_->fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
  socket_.reset();
  // SIGPIPE would end this process.
  for (int i = 0; i < 3; ++i) (void)server_.hub->send(id, random_body(100'000, 1));
  EXPECT_TRUE(until({&server_}, [&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed_with().code(), Code::kConnectionLost);
  EXPECT_NE(server_.closed_with().system_error(), 0);
}

TEST_P(ControlBrokenPeers, LastWordsAreHeardThoughWritingFails) {
  join();
  const ChannelId id = server_.accepted.front();
  say(encode_frame_header(3));
  say(bytes_of("bye"));
  stream_->finish();
  socket_.reset();
  for (int i = 0; i < 3; ++i) (void)server_.hub->send(id, random_body(100'000, 1));
  EXPECT_TRUE(until({&server_}, [&] { return !server_.closed.empty(); }));
  ASSERT_EQ(server_.frames[id].size(), 1U);
  EXPECT_EQ(server_.frames[id].front(), bytes_of("bye"));
}

TEST_P(ControlBrokenPeers, BytesUnderTheStreamAreRefused) {
  join();
  // With TLS this is a forged record, without it a wrong magic.
  ASSERT_TRUE(socket_->say(bytes_of("\x17\x03\x03\x00\x20 with thirty-two bytes of rubbish"sv)));
  EXPECT_TRUE(until({&server_}, [&] { return !server_.closed.empty(); }));
  EXPECT_EQ(server_.closed_with().code(), Code::kProtocol);
  EXPECT_TRUE(server_.frames.empty());
}

}  // namespace
}  // namespace penstock::control
