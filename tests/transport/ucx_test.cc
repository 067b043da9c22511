// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What is UCX's own: its libraries, strangers on the rendezvous socket, peers in other processes.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <random>

#include "tests/transport/ucx_peer.h"
#include "transport/socket/socket.h"
#include "transport/ucx/api.h"
#include "transport/ucx/device.h"
#include "transport/ucx/frame.h"

namespace penstock::test {
namespace {

using testing::HasSubstr;
using ucx::Greeting;
using ucx::GreetingType;

constexpr TimeNs kPatienceNs = 30 * kSecond;

TEST(UcxLibrary, SaysWhichLibraryIsMissingAndTheWayOut) {
  const Status status = ucx::load_ucp("libno-such-ucp.so.0", "libucs.so.0").status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("ucx: not available, because libno-such-ucp.so.0"));
  EXPECT_THAT(status.hint(), HasSubstr("libucx0"));
}

TEST(UcxLibrary, SaysWhichFunctionIsMissing) {
  const Status status = ucx::load_ucp("libm.so.6", "libm.so.6").status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("libm.so.6 has no ucp_"));
}

// A device with a lane; skips the test where UCX is absent.
class UcxTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { open("tcp,self"); }

  void open(const char* transports) {
    device_.reset();
    UcxOptions options;
    options.transports = transports;
    options.hello_timeout_ns = 200 * kMillisecond;
    Result<std::unique_ptr<Device>> opened = open_ucx_device(options, clock_);
    if (!opened.ok()) GTEST_SKIP() << opened.status().to_string();
    device_ = std::move(opened).value();
    queue_ = device_->create_completion_queue(256).value();
  }

  void TearDown() override {
    endpoint_.reset();
    region_.reset();
    queue_.reset();
    device_.reset();
  }

  void turn() {
    device_->progress();
    std::array<Completion, 16> taken;
    for (std::size_t i = queue_->poll(taken); i > 0; --i) {
      const Completion& event = taken[i - 1];
      immediates_ += event.event == Event::kImmediate ? 1 : 0;
      connected_ += event.event == Event::kConnected ? 1 : 0;
      disconnected_ += event.event == Event::kDisconnected ? 1 : 0;
    }
  }
  bool until(const std::function<bool()>& condition) {
    for (const TimeNs deadline_ns = clock_.now_ns() + kPatienceNs; !condition(); turn())
      if (clock_.now_ns() > deadline_ns) return false;
    return true;
  }

  Token await_anyone() {
    EndpointOptions options;
    options.token = random_token();
    endpoint_ = device_->accept(*queue_, options).value();
    return options.token;
  }
  PeerOrders await_writer(const char* transports, std::size_t bytes) {
    bytes_.assign(bytes, std::byte{0});
    region_ = device_->register_memory(bytes_, MemoryKind::kHost, Access::kRemoteWrite).value();
    return {transports, device_->address(), await_anyone(), region_->describe()};
  }

  UniqueFd dial() const {
    auto target = socket::parse_device_address("ucx:", device_->address()).value();
    UniqueFd fd(::socket(target.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), target.get(), target.length), 0);
    return fd;
  }
  // Everything the device answers until it hangs up.
  std::string last_words(const UniqueFd& fd) {
    std::string heard;
    const bool over = until([&] {
      std::array<char, 256> some;
      const ssize_t got = ::recv(fd.get(), some.data(), some.size(), MSG_DONTWAIT);
      if (got > 0) heard.append(some.data(), static_cast<std::size_t>(got));
      return got == 0 || (got < 0 && errno != EAGAIN);
    });
    EXPECT_TRUE(over) << "the device did not hang up";
    return heard;
  }
  static void tell(const UniqueFd& fd, const void* bytes, std::size_t length) {
    (void)::send(fd.get(), bytes, length, MSG_NOSIGNAL);
  }
  static Greeting answer_in(const std::string& heard) {
    Greeting answer;
    EXPECT_EQ(heard.size(), sizeof answer);
    if (heard.size() == sizeof answer) std::memcpy(&answer, heard.data(), sizeof answer);
    return answer;
  }

  SystemClock clock_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<CompletionQueue> queue_;
  std::vector<std::byte> bytes_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Endpoint> endpoint_;
  int immediates_ = 0, connected_ = 0, disconnected_ = 0;
};

TEST_F(UcxTest, LeavesTheProgramsSignalsAlone) {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) != 0) continue;
    Dl_info owner{};
    auto* handler = reinterpret_cast<void*>(action.sa_handler);
    if (::dladdr(handler, &owner) == 0 || owner.dli_fname == nullptr) continue;
    EXPECT_THAT(owner.dli_fname, testing::Not(HasSubstr("libuc"))) << "signal " << signal;
  }
}

TEST_F(UcxTest, NamesTransportsThatAreNotHere) {
  UcxOptions options;
  options.transports = "no_such_transport";
  const Status status = open_ucx_device(options, clock_).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.to_string(), HasSubstr("no_such_transport"));
  EXPECT_THAT(status.to_string(), HasSubstr("not available, because"));
}

TEST_F(UcxTest, RegistersHostMemoryOnly) {
  bytes_.resize(64);
  const Status status =
      device_->register_memory(bytes_, MemoryKind::kCuda, Access::kLocal).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_THAT(status.hint(), HasSubstr("verbs"));
}

TEST_F(UcxTest, HangsUpOnGarbageAndGoesOn) {
  await_anyone();
  const auto seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 50; ++i) {
    const UniqueFd fd = dial();
    std::string noise(4 + random() % 300, '\0');
    for (char& each : noise) each = static_cast<char>(random());
    tell(fd, noise.data(), noise.size());
    EXPECT_EQ(last_words(fd), "");
  }
  EXPECT_EQ(connected_ + disconnected_, 0);
}

TEST_F(UcxTest, TellsAPeerOfAnotherVersionItsOwn) {
  await_anyone();
  const UniqueFd fd = dial();
  Greeting hello;
  hello.version = ucx::kVersion + 1;
  hello.type = GreetingType::kHello;
  tell(fd, &hello, sizeof hello);
  const Greeting answer = answer_in(last_words(fd));
  EXPECT_EQ(answer.type, GreetingType::kError);
  EXPECT_EQ(answer.version, ucx::kVersion);
  EXPECT_EQ(connected_ + disconnected_, 0);
}

TEST_F(UcxTest, SaysWhichVersionThePeerSpeaks) {
  const UniqueFd listener = socket::listen_on("127.0.0.1", 0, {}).value();
  const std::uint16_t port = socket::bound_port(listener.get()).value();
  EndpointOptions options;
  options.token = random_token();
  endpoint_ =
      device_->connect(*queue_, socket::device_address("ucx:", "127.0.0.1", port), options).value();
  UniqueFd fd;
  ASSERT_TRUE(until([&] {
    fd = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return fd.valid();
  }));
  Greeting answer;
  answer.version = 77;
  answer.type = GreetingType::kWelcome;
  tell(fd, &answer, sizeof answer);
  ASSERT_TRUE(until([&] { return disconnected_ == 1; }));
  EXPECT_EQ(endpoint_->status().code(), Code::kProtocol);
  EXPECT_THAT(endpoint_->status().to_string(), HasSubstr("version 77"));
}

TEST_F(UcxTest, RefusesAWrongTokenInWords) {
  await_anyone();
  const UniqueFd fd = dial();
  Greeting hello;
  hello.type = GreetingType::kHello;
  hello.token = random_token();
  tell(fd, &hello, sizeof hello);
  const Greeting answer = answer_in(last_words(fd));
  EXPECT_EQ(answer.type, GreetingType::kError);
  EXPECT_EQ(answer.code, static_cast<std::uint32_t>(Code::kUnauthenticated));
  EXPECT_EQ(connected_ + disconnected_, 0);
}

TEST_F(UcxTest, RefusesAHelloWithImpossibleNumbers) {
  const auto attempt = [&](std::uint32_t depth, std::uint32_t address_bytes) {
    disconnected_ = 0;
    Greeting hello;
    hello.type = GreetingType::kHello;
    hello.token = await_anyone();
    hello.depth = depth;
    hello.address_bytes = address_bytes;
    const UniqueFd fd = dial();
    tell(fd, &hello, sizeof hello);
    last_words(fd);
    EXPECT_TRUE(until([&] { return disconnected_ == 1; }));
    EXPECT_EQ(endpoint_->status().code(), Code::kProtocol);
  };
  attempt(0, 0);
  attempt(UINT32_MAX, 0);
  attempt(16, 0);
  attempt(16, ucx::kMaxAddressBytes + 1);
}

class UcxProcesses : public UcxTest {
 protected:
  void SetUp() override { open(GetParam()); }
};

TEST_P(UcxProcesses, AKilledPeerIsAConnectionLost) {
  if (std::string_view(GetParam()).starts_with("posix"))
    GTEST_SKIP()
        << "UCX 1.13 over shared memory may keep a killed peer's transfer; it ends us then";
  const PeerOrders orders = await_writer(GetParam(), 1 << 20);
  PeerProcess peer(orders);
  ASSERT_TRUE(until([&] { return immediates_ >= 20; }));
  peer.kill();
  const Counter received = device_->counters().at(2);
  EXPECT_EQ(received.name, "frames_received");
  EXPECT_GE(received.value, 20U);
  ASSERT_TRUE(until([&] { return disconnected_ == 1; }));
  EXPECT_EQ(endpoint_->status().code(), Code::kConnectionLost);
}

TEST_P(UcxProcesses, AStoppedPeerDoesNotHoldARegion) {
  if (std::string_view(GetParam()).starts_with("posix"))
    GTEST_SKIP() << "UCX 1.13 over shared memory may keep a stopped peer's transfer for good";
  const PeerOrders orders = await_writer(GetParam(), 16 << 20);
  PeerProcess peer(orders);
  ASSERT_TRUE(until([&] { return immediates_ >= 2; }));
  peer.stop();
  region_.reset();  // returns, whatever was under way
  bytes_.assign(bytes_.size(), std::byte{1});
  for (int i = 0; i < 1'000; ++i) turn();
  EXPECT_EQ(std::count(bytes_.begin(), bytes_.end(), std::byte{1}),
            static_cast<std::ptrdiff_t>(bytes_.size()));
}

INSTANTIATE_TEST_SUITE_P(Ucx, UcxProcesses, testing::Values("tcp,self", "posix,sysv,cma,self"),
                         [](const auto& each) {
                           return each.param[0] == 't' ? std::string("tcp") : std::string("shm");
                         });

}  // namespace
}  // namespace penstock::test
