// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What control hubs do for each other, with a secret and without.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>

#include "tests/support/allocation_counter.h"
#include "tests/transport/control_support.h"

namespace penstock::control {
namespace {

using testing::HasSubstr;

class ControlHubs : public testing::TestWithParam<bool> {
 protected:
  TlsHubOptions options() const { return GetParam() ? with_secret(secret_) : insecurely(); }

  const Secret secret_ = Secret::random();
  SystemClock clock_;
  Party server_{options(), clock_}, client_{options(), clock_};
};
INSTANTIATE_TEST_SUITE_P(, ControlHubs, testing::Bool(),
                         [](const auto& of) { return of.param ? "Tls" : "Plain"; });

TEST_P(ControlHubs, CarriesFramesOfEverySizeClassBothWays) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  server_.answer = [&](ChannelId from, const Bytes& frame) {
    EXPECT_TRUE(server_.hub->send(from, frame).ok());
  };
  std::vector<Bytes> sent;
  for (std::size_t size = 1; size < kMaxControlFrameBytes; size *= 4)
    for (const std::size_t near : {size - 1, size, size + 1})
      sent.push_back(random_body(near, near));
  sent.push_back(random_body(kMaxControlFrameBytes, 1));
  std::size_t next = 0;
  // Send more whenever there is room; expect every frame back, in order.
  const bool echoed = until({&client_, &server_}, [&] {
    while (next < sent.size() && client_.hub->send(channel.near, sent[next]).ok()) ++next;
    return client_.frames[channel.near].size() == sent.size() || !client_.closed.empty();
  });
  EXPECT_TRUE(echoed);
  EXPECT_TRUE(client_.closed.empty()) << client_.closed_with().to_string();
  EXPECT_TRUE(server_.closed.empty()) << server_.closed_with().to_string();
  EXPECT_TRUE(server_.frames[channel.far] == sent);
  EXPECT_TRUE(client_.frames[channel.near] == sent);
}

TEST_P(ControlHubs, RefusesAFrameOverTheLimit) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  const Bytes large(kMaxControlFrameBytes + 1);
  EXPECT_EQ(client_.hub->send(channel.near, large).code(), Code::kInvalidArgument);
  EXPECT_TRUE(client_.hub->send(channel.near, bytes_of("still open")).ok());
  EXPECT_TRUE(until({&client_, &server_}, [&] { return !server_.frames[channel.far].empty(); }));
}

TEST_P(ControlHubs, KeepsWhatIsSentBeforeItIsConnected) {
  const std::string address = server_.listen();
  const ChannelId id = client_.hub->connect(address, clock_.now_ns() + 5 * kSecond).value();
  EXPECT_TRUE(client_.hub->send(id, bytes_of("early")).ok());
  EXPECT_TRUE(until({&client_, &server_}, [&] { return !server_.frames.empty(); }));
  EXPECT_EQ(server_.frames.begin()->second.front(), bytes_of("early"));
}

TEST_P(ControlHubs, BoundsTheQueueToAPeerThatDoesNotRead) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  const Bytes frame(std::size_t{1} << 20);
  std::size_t queued = 0;
  Status last;
  while ((last = client_.hub->send(channel.near, frame)).ok() && queued < 1000) ++queued;
  // Expect: refused at the bound, give or take what the sockets' buffers took.
  EXPECT_EQ(last.code(), Code::kExhausted);
  EXPECT_GE(queued, kMaxControlQueueBytes / (frame.size() + 8));
  EXPECT_LT(queued, 2 * kMaxControlQueueBytes / frame.size());
  // Expect: the peer reads again and gets all of it.
  EXPECT_TRUE(
      until({&client_, &server_}, [&] { return server_.frames[channel.far].size() == queued; }));
  EXPECT_TRUE(client_.hub->send(channel.near, frame).ok());
}

TEST_P(ControlHubs, SendsWhatIsQueuedBeforeItCloses) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  const Bytes large = random_body(kMaxControlFrameBytes, 1);
  EXPECT_TRUE(client_.hub->send(channel.near, large).ok());
  EXPECT_TRUE(client_.hub->send(channel.near, bytes_of("goodbye")).ok());
  client_.hub->close(channel.near);
  EXPECT_EQ(client_.hub->send(channel.near, {}).code(), Code::kNotFound);
  EXPECT_TRUE(until({&client_, &server_}, [&] { return server_.closed.contains(channel.far); }));
  ASSERT_EQ(server_.frames[channel.far].size(), 2U);
  EXPECT_TRUE(server_.frames[channel.far][0] == large);
  EXPECT_EQ(server_.frames[channel.far][1], bytes_of("goodbye"));
  EXPECT_EQ(server_.closed.at(channel.far).code(), Code::kConnectionLost);
  EXPECT_TRUE(client_.closed.empty());
}

TEST_P(ControlHubs, BothMayCloseAtOnce) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  EXPECT_TRUE(client_.hub->send(channel.near, Bytes(100'000)).ok());
  EXPECT_TRUE(server_.hub->send(channel.far, Bytes(100'000)).ok());
  client_.hub->close(channel.near);
  server_.hub->close(channel.far);
  server_.hub->close(channel.far);
  settle({&client_, &server_});
  EXPECT_EQ(client_.hub->next_deadline_ns(), kNever);
  EXPECT_EQ(server_.hub->next_deadline_ns(), kNever);
  EXPECT_TRUE(client_.closed.empty() && server_.closed.empty());
}

TEST_P(ControlHubs, TellsThePeerWhenAHubIsDestroyed) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  EXPECT_TRUE(client_.hub->send(channel.near, bytes_of("last words")).ok());
  client_.hub.reset();
  EXPECT_TRUE(until({&server_}, [&] { return server_.closed.contains(channel.far); }));
  EXPECT_EQ(server_.frames[channel.far].front(), bytes_of("last words"));
  EXPECT_EQ(server_.closed.at(channel.far).code(), Code::kConnectionLost);
  EXPECT_EQ(server_.closed.at(channel.far).peer(), server_.addresses.front());
}

TEST_P(ControlHubs, HandlersMaySendConnectAndCloseAnyChannel) {
  const std::string address = server_.listen();
  server_.greet = [&](ChannelId id) { EXPECT_TRUE(server_.hub->send(id, bytes_of("hi")).ok()); };
  // Close the channel from inside its own event, with more frames behind it; open another.
  client_.answer = [&](ChannelId id, const Bytes&) {
    client_.hub->close(id);
    if (client_.frames.size() == 20) return;
    EXPECT_TRUE(client_.hub->connect(address, clock_.now_ns() + 5 * kSecond).ok());
  };
  ASSERT_TRUE(client_.hub->connect(address, clock_.now_ns() + 5 * kSecond).ok());
  EXPECT_TRUE(until({&client_, &server_}, [&] { return server_.closed.size() == 20; }));
  EXPECT_EQ(client_.frames.size(), 20U);
  EXPECT_TRUE(client_.closed.empty());
}

TEST_P(ControlHubs, DropsFramesAfterCloseInsideTheirEvent) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  server_.answer = [&](ChannelId id, const Bytes&) { server_.hub->close(id); };
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(client_.hub->send(channel.near, Bytes(10)).ok());
  EXPECT_TRUE(until({&client_, &server_}, [&] { return client_.closed.size() == 1; }));
  EXPECT_EQ(server_.frames[channel.far].size(), 1U);
  EXPECT_TRUE(server_.closed.empty());
}

TEST_P(ControlHubs, HoldsManyChannels) {
  const std::string address = server_.listen();
  constexpr std::size_t kChannels = 300;
  server_.answer = [&](ChannelId id, const Bytes& frame) {
    EXPECT_TRUE(server_.hub->send(id, frame).ok());
  };
  // Fewer at once than may be unauthenticated, as callers that retry would end up with.
  for (std::size_t made = 0; made < kChannels; made += 100) {
    for (int i = 0; i < 100; ++i)
      ASSERT_TRUE(client_.hub->connect(address, clock_.now_ns() + 10 * kSecond).ok());
    ASSERT_TRUE(until({&client_, &server_}, [&] {
      return client_.connected.size() == made + 100 && server_.accepted.size() == made + 100;
    }));
  }
  for (const ChannelId id : client_.connected)
    EXPECT_TRUE(client_.hub->send(id, random_body(id, id)).ok());
  EXPECT_TRUE(until({&client_, &server_}, [&] { return client_.frames.size() == kChannels; }));
  for (const ChannelId id : client_.connected)
    EXPECT_TRUE(client_.frames[id].front() == random_body(id, id));
  EXPECT_TRUE(client_.closed.empty() && server_.closed.empty());
}

TEST_P(ControlHubs, SaysWhereNobodyListens) {
  // Receive: an address that was free a moment ago.
  const std::string address = Party(options(), clock_).listen();
  const ChannelId id = client_.hub->connect(address, clock_.now_ns() + 5 * kSecond).value();
  EXPECT_TRUE(until({&client_}, [&] { return client_.closed.contains(id); }));
  const Status why = client_.closed.at(id);
  EXPECT_EQ(why.code(), Code::kConnectionLost);
  EXPECT_EQ(why.system_error(), ECONNREFUSED);
  EXPECT_EQ(why.what(), "connect to " + address);
}

TEST_P(ControlHubs, NamesATakenPort) {
  const std::string address = server_.listen();
  const Status why = client_.hub->listen(address).status();
  EXPECT_EQ(why.code(), Code::kAlreadyExists);
  EXPECT_EQ(why.what(), "listen on " + address);
  EXPECT_EQ(why.system_error(), EADDRINUSE);
  EXPECT_THAT(why.hint(), HasSubstr("port"));
}

TEST_P(ControlHubs, RefusesMalformedAddresses) {
  for (const char* text : {"", "host", ":1", "host:", "host:http", "host:65536", "host:-1", "::1:5",
                           "[]:5", "1.2.3.4:99999999999999999999"}) {
    EXPECT_EQ(client_.hub->listen(text).status().code(), Code::kInvalidArgument) << text;
    EXPECT_EQ(client_.hub->connect(text, kNever).status().code(), Code::kInvalidArgument) << text;
  }
  const Status unknown = client_.hub->connect("no such host.invalid:1", kNever).status();
  EXPECT_EQ(unknown.code(), Code::kNotFound) << unknown.to_string();
}

TEST_P(ControlHubs, FindsAListenerByName) {
  const std::string address = server_.listen();
  const std::string port = address.substr(address.rfind(':'));
  // "localhost" may be ::1 first, where nobody listens.
  (void)link(client_, server_, "localhost" + port, clock_);
}

TEST_P(ControlHubs, ListensOnAllInterfacesAndSaysHowToReachThem) {
  const std::string address = server_.hub->listen("0.0.0.0:0").value();
  EXPECT_THAT(address, testing::Not(HasSubstr("0.0.0.0")));
  (void)link(client_, server_, address, clock_);
}

TEST_P(ControlHubs, GivesUpAtTheDeadline) {
  // A listener that nobody polls: TCP connects, the handshake does not end.
  ManualClock clock;
  Party client(options(), clock);
  const std::string address = server_.listen();
  const ChannelId id = client.hub->connect(address, 2 * kSecond).value();
  settle({&client});
  EXPECT_EQ(client.hub->next_deadline_ns(), 2 * kSecond);
  clock.advance(2 * kSecond - 1);
  settle({&client});
  EXPECT_TRUE(client.closed.empty());
  clock.advance(1);
  EXPECT_EQ(client.poll(), 1U);
  EXPECT_EQ(client.closed.at(id).code(), Code::kTimeout);
  EXPECT_THAT(client.closed.at(id).what(), HasSubstr("connect to " + address));
  EXPECT_EQ(client.hub->next_deadline_ns(), kNever);
}

TEST_P(ControlHubs, FlushesForASecondAtMost) {
  ManualClock clock;
  Party client(options(), clock);
  const Link channel = link(client, server_, server_.listen(), clock);
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(client.hub->send(channel.near, Bytes(kMaxControlFrameBytes)).ok());
  client.hub->close(channel.near);
  settle({&client});  // the server does not read
  EXPECT_EQ(client.hub->next_deadline_ns(), kSecond);
  clock.advance(kSecond);
  EXPECT_EQ(client.poll(), 0U);
  EXPECT_EQ(client.hub->next_deadline_ns(), kNever);
  EXPECT_TRUE(until({&server_}, [&] { return server_.closed.contains(channel.far); }));
  EXPECT_LT(server_.frames[channel.far].size(), 3U);
}

// Answers every frame and remembers nothing.
class Echo final : public ControlHandler {
 public:
  explicit Echo(ControlHub& hub) : hub_(hub) {}
  void on_accepted(ChannelId, const std::string&) override {}
  void on_connected(ChannelId) override {}
  void on_frame(ChannelId channel, std::span<const std::byte> frame) override {
    ++frames;
    EXPECT_TRUE(hub_.send(channel, frame).ok());
  }
  void on_closed(ChannelId, const Status& reason) override { ADD_FAILURE() << reason.to_string(); }
  int frames = 0;

 private:
  ControlHub& hub_;
};

TEST_P(ControlHubs, SmallFramesInSteadyStateDoNotAllocate) {
  const Link channel = link(client_, server_, server_.listen(), clock_);
  Echo near(*client_.hub), far(*server_.hub);
  const Bytes heartbeat(200);
  ASSERT_TRUE(client_.hub->send(channel.near, heartbeat).ok());
  std::uint64_t before = 0;
  // Ping-pong: a hundred rounds to warm up, a thousand to count.
  const TimeNs deadline_ns = clock_.now_ns() + 10 * kSecond;
  while (near.frames < 1'100 && clock_.now_ns() < deadline_ns) {
    client_.hub->poll(near);
    server_.hub->poll(far);
    if (near.frames == 100 && before == 0) before = test::heap_allocations();
  }
  ASSERT_EQ(near.frames, 1'100);
  EXPECT_EQ(test::heap_allocations(), before);
}

TEST_P(ControlHubs, ReusesNoChannelId) {
  const std::string address = server_.listen();
  std::vector<ChannelId> ids;
  for (int i = 0; i < 10; ++i) {
    const Link channel = link(client_, server_, address, clock_);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), channel.near), 0);
    ids.push_back(channel.near);
    client_.hub->close(channel.near);
    EXPECT_TRUE(until({&client_, &server_}, [&] { return server_.closed.contains(channel.far); }));
  }
}

}  // namespace
}  // namespace penstock::control
