// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What shm promises beyond the contract: two processes, one of which dies; nothing left behind;
// which memory is shared; what rounds cost.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "tests/support/descriptors.h"
#include "tests/support/pattern.h"
#include "tests/transport/shm_support.h"

namespace penstock::test {
namespace {

std::size_t files_in_dev_shm() {
  const std::filesystem::directory_iterator files("/dev/shm");
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

bool socket_exists(const std::string& name) {
  std::ifstream sockets("/proc/net/unix");
  for (std::string line; std::getline(sockets, line);)
    if (line.find(name) != std::string::npos) return true;
  return false;
}

// A process of its own that runs `body` and tells us things through a pipe. Killed at the end.
class Child {
 public:
  explicit Child(const std::function<void(int out)>& body) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(ends[0]);
      body(ends[1]);
      ::_exit(0);
    }
    ::close(ends[1]);
    from_.reset(ends[0]);
  }
  ~Child() { kill(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  template <class T>
  T hear() {
    T value{};
    EXPECT_EQ(::read(from_.get(), &value, sizeof value), sizeof value);
    return value;
  }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  UniqueFd from_;
};

constexpr std::size_t kBytes = 300'000;

// What a child tells of itself.
struct Introduction {
  std::array<char, 64> address{};
  RemoteRegion shared, heap;
};

// A server that accepts `token` and polls until it is killed.
void serve(const Token& token, int out) {
  ShmSide side;
  const auto shared =
      side.device->allocate_memory(kBytes, Access::kRemoteReadWrite | Access::kMap).value();
  std::vector<std::byte> bytes(kBytes);
  const auto heap =
      side.device->register_memory(bytes, MemoryKind::kHost, Access::kRemoteReadWrite, kAnyScope)
          .value();
  fill_pattern(shared->bytes(), 11);
  side.accept(token);
  Introduction hello{{}, shared->describe(), heap->describe()};
  side.device->address().copy(hello.address.data(), hello.address.size() - 1);
  if (::write(out, &hello, sizeof hello) != sizeof hello) return;
  const auto until = std::chrono::steady_clock::now() + 2 * kTestPatience;
  while (std::chrono::steady_clock::now() < until) {
    side.poll();
    side.events.clear();
    if (side.queue->arm()) {
      std::array<pollfd, 2> wait{{{side.queue->fd(), POLLIN, 0}, {side.device->fd(), POLLIN, 0}}};
      ::poll(wait.data(), wait.size(), 100);
    }
  }
}

TEST(ShmProcesses, BytesAndMappingsReachAnotherProcess) {
  const Token token = random_token();
  Child child([&](int out) { serve(token, out); });
  const auto there = child.hear<Introduction>();
  ShmSide here;
  here.connect(there.address.data(), token);
  ASSERT_TRUE(here.wait_for(Event::kConnected).has_value());
  const auto from = here.device->allocate_memory(kBytes, Access::kLocal).value();
  const auto back = here.device->allocate_memory(kBytes, Access::kLocal).value();
  for (const RemoteRegion& remote : {there.shared, there.heap}) {
    fill_pattern(from->bytes(), remote.key.back());
    ASSERT_TRUE(here.write(*from, remote, 1).ok());
    ASSERT_TRUE(
        here.endpoint
            ->post(
                {.opcode = Opcode::kRead, .local = back.get(), .length = kBytes, .remote = &remote})
            .ok());
    EXPECT_EQ(here.wait_for(Event::kWriteDone)->code, Code::kOk);
    EXPECT_EQ(here.wait_for(Event::kReadDone)->code, Code::kOk);
    EXPECT_TRUE(has_pattern(back->bytes(), remote.key.back()));
  }
  // One call: the other process answers meanwhile.
  std::shared_ptr<RemoteMapping> mapped;
  ASSERT_TRUE(eventually([&] {
    const auto answer = here.endpoint->map(there.shared, Access::kMap);
    if (answer.ok()) mapped = *answer;
    return answer.ok() || answer.status().code() != Code::kTimeout;
  }));
  ASSERT_NE(mapped, nullptr);
  EXPECT_TRUE(has_pattern(mapped->bytes(), there.shared.key.back()));
  child.kill();
  EXPECT_TRUE(has_pattern(mapped->bytes(), there.shared.key.back())) << "bytes outlive the peer";
}

TEST(ShmProcesses, APeerThatIsKilledIsNoticedAndLeavesNothing) {
  const std::size_t files = files_in_dev_shm();
  const std::size_t descriptors = open_descriptors();
  std::string name;
  for (const bool shared : {true, false}) {
    const Token token = random_token();
    Child child([&](int out) { serve(token, out); });
    const auto there = child.hear<Introduction>();
    name = shm::parse_address(there.address.data()).value().name;
    EXPECT_TRUE(socket_exists(name));
    ShmSide here;
    here.connect(there.address.data(), token);
    ASSERT_TRUE(here.wait_for(Event::kConnected).has_value());
    const auto from = here.device->allocate_memory(kBytes, Access::kLocal).value();
    std::uint32_t posted = 0, done = 0, failed = 0;
    bool gone = false;
    ASSERT_TRUE(eventually([&] {
      while (here.endpoint->send_free() > 0)
        if (here.write(*from, shared ? there.shared : there.heap, posted).ok()) ++posted;
      here.poll();
      for (const Completion& event : here.events) {
        gone |= event.event == Event::kDisconnected;
        done += event.event == Event::kWriteDone;
        failed += event.event == Event::kWriteDone && event.code == Code::kConnectionLost;
      }
      here.events.clear();
      if (done > 200 && failed == 0) child.kill();  // in the middle of the stream
      return gone;
    }));
    EXPECT_EQ(done, posted);
    EXPECT_EQ(here.endpoint->status().code(), Code::kConnectionLost);
  }
  EXPECT_FALSE(socket_exists(name));
  EXPECT_EQ(files_in_dev_shm(), files);
  EXPECT_EQ(open_descriptors(), descriptors);
}

TEST(ShmProcesses, ASleeperIsWokenByThePeersDeath) {
  const Token token = random_token();
  Child child([&](int out) { serve(token, out); });
  const auto there = child.hear<Introduction>();
  ShmSide here;
  here.connect(there.address.data(), token);
  ASSERT_TRUE(here.wait_for(Event::kConnected).has_value());
  ASSERT_TRUE(eventually([&] {
    const bool asleep = here.queue->arm();
    if (!asleep) here.poll();
    return asleep;
  }));
  child.kill();
  pollfd wait{here.queue->fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 20'000), 1);
  const auto end = here.wait_for(Event::kDisconnected);
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(end->code, Code::kConnectionLost);
}

// Two devices of this process, connected.
class Shm : public ::testing::Test {
 protected:
  explicit Shm(const ShmOptions& options = {.by_kernel = false}) : a_(options), b_(options) {}
  void SetUp() override {
    const Token token = random_token();
    b_.accept(token);
    a_.connect(b_.device->address(), token);
    a_.peer = &b_;
    ASSERT_TRUE(a_.wait_for(Event::kConnected).has_value());
    ASSERT_TRUE(eventually([&] { return a_.poll(), b_.endpoint->connected(); }));
  }
  // Writes all of a new region here to `to`; was it copied twice?
  bool copies_twice(const MemoryRegion& to) {
    std::vector<std::byte> bytes(to.bytes().size());
    const auto from =
        a_.device->register_memory(bytes, MemoryKind::kHost, Access::kLocal, kAnyScope).value();
    const std::uint64_t before = b_.counter("bytes_copied_twice");
    EXPECT_TRUE(a_.write(*from, to.describe(), 1).ok());
    EXPECT_EQ(a_.wait_for(Event::kWriteDone)->code, Code::kOk);
    return b_.counter("bytes_copied_twice") != before;
  }
  std::unique_ptr<MemoryRegion> part(const MemoryRegion& whole, Access access, PeerScope scope) {
    return b_.device
        ->register_memory(whole.bytes().subspan(100, 1'000), MemoryKind::kHost, access, scope)
        .value();
  }

  ShmSide a_, b_;
};

TEST_F(Shm, SharesAllocatedMemoryAndPartsOfItAsFarAsItsOwnerSaid) {
  const auto open = b_.device->allocate_memory(10'000, Access::kLocal).value();
  EXPECT_FALSE(copies_twice(*part(*open, Access::kRemoteWrite, kAnyScope)));
  // Who maps a part could reach the whole: it is shared only if the whole may be.
  const auto readable = b_.device->allocate_memory(10'000, Access::kRemoteRead).value();
  EXPECT_TRUE(copies_twice(*part(*readable, Access::kRemoteWrite, kAnyScope)));
  const auto foreign = b_.device->allocate_memory(10'000, Access::kLocal, 8).value();
  EXPECT_TRUE(copies_twice(*part(*foreign, Access::kRemoteWrite, kAnyScope)));
}

class ShmByKernel : public Shm {
 protected:
  ShmByKernel() : Shm(ShmOptions{}) {}
};

TEST_F(ShmByKernel, MemoryThatIsNotSharedIsCopiedOnceAndWithoutAsking) {
  std::vector<std::byte> there(3'000'000), here(3'000'000), back(3'000'000);
  const auto far =
      b_.device->register_memory(there, MemoryKind::kHost, Access::kRemoteReadWrite, kAnyScope)
          .value();
  const auto near =
      a_.device->register_memory(here, MemoryKind::kHost, Access::kLocal, kAnyScope).value();
  const auto again =
      a_.device->register_memory(back, MemoryKind::kHost, Access::kLocal, kAnyScope).value();
  fill_pattern(here, 7);
  const std::uint64_t messages = a_.counter("control_messages") + b_.counter("control_messages");
  ASSERT_TRUE(a_.write(*near, far->describe(), 1).ok());
  ASSERT_TRUE(a_.endpoint
                  ->post({.opcode = Opcode::kRead,
                          .local = again.get(),
                          .length = back.size(),
                          .remote = &far->describe()})
                  .ok());
  EXPECT_EQ(a_.wait_for(Event::kWriteDone)->code, Code::kOk);
  EXPECT_EQ(a_.wait_for(Event::kReadDone)->code, Code::kOk);
  EXPECT_TRUE(has_pattern(there, 7));
  EXPECT_TRUE(has_pattern(back, 7));
  EXPECT_EQ(a_.counter("bytes_by_kernel") + b_.counter("bytes_by_kernel"), 6'000'000U);
  EXPECT_GT(b_.counter("bytes_by_kernel"), 0U) << "of a large write the peer does its share";
  EXPECT_EQ(b_.counter("bytes_copied_twice"), 0U);
  EXPECT_EQ(a_.counter("control_messages") + b_.counter("control_messages"), messages);
}

TEST_F(Shm, MapsAPartOfAllocatedMemoryWhereItLiesAndForReadingOnly) {
  const auto whole = b_.device->allocate_memory(10'000, Access::kLocal).value();
  fill_pattern(whole->bytes().subspan(100, 1'000), 3);
  const auto lent = part(*whole, Access::kMap, kAnyScope);
  auto mapped = a_.endpoint->map(lent->describe(), Access::kMap);
  EXPECT_EQ(mapped.status().code(), Code::kTimeout) << "nobody polls the peer meanwhile";
  ASSERT_TRUE(eventually([&] {
    a_.poll();
    mapped = a_.endpoint->map(lent->describe(), Access::kMap);
    return mapped.ok();
  }));
  EXPECT_EQ((*mapped)->bytes().size(), 1'000U);
  EXPECT_TRUE(has_pattern((*mapped)->bytes(), 3));
  // The kernel writes for us, so that a refusal is an error and not the end of the process.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  ASSERT_EQ(::write(in.get(), "x", 1), 1);
  EXPECT_EQ(::read(out.get(), (*mapped)->bytes().data(), 1), -1);
  EXPECT_TRUE(has_pattern(lent->bytes(), 3));
}

TEST_F(Shm, RoundsCostNoMessagesAndNoSecondCopy) {
  const auto from = a_.device->allocate_memory(5'000, Access::kLocal).value();
  const auto to = b_.device->allocate_memory(5'000, Access::kRemoteWrite).value();
  const auto round = [&](std::uint32_t i) {
    EXPECT_TRUE(a_.write(*from, to->describe(), i).ok());
    EXPECT_TRUE(a_.wait_for(Event::kWriteDone).has_value());
    b_.events.clear();
  };
  round(0);
  const std::uint64_t messages = a_.counter("control_messages") + b_.counter("control_messages");
  const std::uint64_t in_place = a_.counter("bytes_in_place");
  for (std::uint32_t i = 1; i <= 1'000; ++i) round(i);
  EXPECT_EQ(a_.counter("control_messages") + b_.counter("control_messages"), messages);
  EXPECT_EQ(a_.counter("bytes_in_place"), in_place + 5'000'000);
  EXPECT_EQ(a_.counter("doorbells") + b_.counter("doorbells"), 0U) << "nobody slept";
}

TEST_F(Shm, ASleeperIsRungForWhatConcernsItOnly) {
  const auto from = a_.device->allocate_memory(5'000, Access::kLocal).value();
  const auto to = b_.device->allocate_memory(5'000, Access::kRemoteWrite).value();
  EXPECT_TRUE(a_.write(*from, to->describe(), 1).ok());
  EXPECT_TRUE(a_.wait_for(Event::kWriteDone).has_value());
  a_.peer = nullptr;
  // The other side polls, first in vain, then what a write of ours left there.
  ASSERT_TRUE(eventually([&] { return a_.poll(), a_.queue->arm(); }));
  for (int i = 0; i < 100; ++i) b_.poll();
  EXPECT_TRUE(a_.write(*from, to->describe(), 2).ok());
  ASSERT_TRUE(eventually([&] { return a_.poll(), a_.queue->arm(); }));
  b_.events.clear();
  EXPECT_EQ(b_.wait_for(Event::kImmediate)->immediate, 2U);
  EXPECT_EQ(b_.counter("doorbells"), 0U) << "nothing was said, then what nobody waited for";
  // Now it sleeps: once for many writes, again for the next sleep.
  for (std::uint64_t sleep = 1; sleep <= 2; ++sleep) {
    ASSERT_TRUE(eventually([&] { return b_.poll(), b_.queue->arm(); }));
    for (std::uint32_t i = 0; i < 10; ++i) {
      EXPECT_TRUE(a_.write(*from, to->describe(), i).ok());
      EXPECT_TRUE(a_.wait_for(Event::kWriteDone).has_value());
    }
    EXPECT_EQ(a_.counter("doorbells"), sleep);
  }
}

TEST_F(Shm, APeerOnAnotherHostIsNotForThisProvider) {
  const std::string here = a_.device->address();
  EXPECT_TRUE(b_.device->route(here).ok());
  std::string elsewhere = here;
  elsewhere[5] = elsewhere[5] == '0' ? '1' : '0';
  EXPECT_EQ(b_.device->route(elsewhere).status().code(), Code::kUnsupported);
  EXPECT_EQ(b_.device->connect(*b_.queue, elsewhere, {}).status().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace penstock::test
