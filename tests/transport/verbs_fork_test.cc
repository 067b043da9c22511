// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tests/support/rdma_rails.h"
#include "tests/transport/rc_pair.h"
#include "tests/transport/verbs_pair.h"
#include "transport/verbs/fork.h"

namespace penstock::test {
namespace {

using verbs::fork_init_needed;

TEST(Fork, IsLeftToTheKernelWhereItCopiesPinnedPages) {
  constexpr int kDisabled = 0;
  EXPECT_FALSE(fork_init_needed(verbs::kForkUnneeded, "4.18.0-553.el8.x86_64"));  // backported
  EXPECT_FALSE(fork_init_needed(kDisabled, "5.12.0"));
  EXPECT_FALSE(fork_init_needed(std::nullopt, "6.1.0-18-amd64"));
  EXPECT_TRUE(fork_init_needed(kDisabled, "5.11.22"));
  EXPECT_TRUE(fork_init_needed(std::nullopt, "4.18.0-553.el8.x86_64"));
  EXPECT_TRUE(fork_init_needed(std::nullopt, "unheard of"));
}

// A table that counts the calls of ibv_fork_init, which returns what it is told to.
int init_calls = 0;
int init_result = 0;
verbs::VerbsApi counting_api(int (*is_initialized)()) {
  init_calls = 0;
  verbs::VerbsApi api;
  api.ibv_is_fork_initialized = is_initialized;
  api.ibv_fork_init = [] { return ++init_calls, init_result; };
  return api;
}

TEST(Fork, TheLibraryIsNotAskedToHidePagesInVain) {
  const verbs::VerbsApi api = counting_api([] { return verbs::kForkUnneeded; });
  EXPECT_TRUE(verbs::make_fork_safe(api, "4.18.0-553.el8.x86_64").ok());
  EXPECT_TRUE(verbs::make_fork_safe(counting_api(nullptr), "6.1.0").ok());
  EXPECT_EQ(init_calls, 0);
}

TEST(Fork, OldKernelsGetHelpOrAReasonWhyItIsTooLate) {
  const verbs::VerbsApi api = counting_api(nullptr);
  init_result = 0;
  EXPECT_TRUE(verbs::make_fork_safe(api, "4.18.0").ok());
  EXPECT_EQ(init_calls, 1);
  init_result = EINVAL;
  const Status late = verbs::make_fork_safe(api, "4.18.0");
  EXPECT_EQ(late.system_error(), EINVAL);
  EXPECT_NE(late.hint().find("IBV_FORK_SAFE"), std::string::npos);
}

// Two pipes to a child.
class Child {
 public:
  // The child runs `first`, says so, waits until release() and ends with what `first` returned.
  template <class First>
  explicit Child(First first) {
    require(::pipe(there_) == 0 && ::pipe(back_) == 0, "pipe");
    pid_ = ::fork();
    require(pid_ >= 0, "fork");
    if (pid_ == 0) {
      ::close(there_[1]);
      const int result = first();
      char byte = 1;
      if (::write(back_[1], &byte, 1) == 1 && ::read(there_[0], &byte, 1) == 0) ::_exit(result);
      ::_exit(99);
    }
    ::close(back_[1]);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) release();
    ::close(there_[0]);
    ::close(back_[0]);
  }
  // False when the child died before it had said anything.
  bool is_ready() {
    char byte = 0;
    return ::read(back_[0], &byte, 1) == 1;
  }
  // The child's exit status, or 128 and its signal.
  int release() {
    ::close(there_[1]);
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  int there_[2]{}, back_[2]{};
  pid_t pid_ = -1;
};

class ForkOnADevice : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(verbs::make_fork_safe(*verbs::system_verbs().value()).ok()); }
  const std::string address_ = rdma_rails().empty() ? "" : rdma_rails()[0].address;
};

// The parent's writes after the fork are what breaks: on kernels that give the writer the copy they
// go to pages the device does not know.
TEST_F(ForkOnADevice, TransfersGoOnWhileAChildLivesAndAfterIt) {
  RcPair pair(address_, address_);
  pair.write_and_check(10);
  for (int children = 0; children < 3; ++children) {
    Child child([] { return 0; });
    ASSERT_TRUE(child.is_ready());
    pair.write_and_check(50);
    EXPECT_EQ(child.release(), 0);
    pair.write_and_check(10);
  }
}

TEST_F(ForkOnADevice, AChildHasTheRegisteredBytesAndItsOwnCopyOfThem) {
  RcPair pair(address_, address_);
  pair.write_and_check(10);
  const auto before = pair.sender->bytes;
  Child child([&] {
    if (pair.sender->bytes != before || pair.receiver->bytes != before) return 1;
    pair.sender->bytes.fill(0xcc);  // must not be what the parent sends
    pair.receiver->bytes.fill(0xdd);
    return 0;
  });
  ASSERT_TRUE(child.is_ready()) << "the child ended with " << child.release();
  EXPECT_EQ(pair.sender->bytes, before);
  EXPECT_EQ(pair.receiver->bytes, before);
  pair.write_and_check(50);
  EXPECT_EQ(child.release(), 0);
}

// A write is under way while the process forks.
TEST_F(ForkOnADevice, AWriteUnderWayArrivesWhole) {
  RcPair pair(address_, address_);
  for (std::uint32_t round = 0; round < 20; ++round) {
    pair.sender->bytes.fill(static_cast<std::uint8_t>(round + 1));
    pair.receiver->post_empty_receive();
    pair.sender->post_write(*pair.receiver, round);
    Child child([] { return 0; });
    EXPECT_EQ(pair.receiver->next_completion().status, IBV_WC_SUCCESS);
    EXPECT_EQ(pair.sender->next_completion().status, IBV_WC_SUCCESS);
    ASSERT_EQ(pair.receiver->bytes, pair.sender->bytes) << round;
    ASSERT_TRUE(child.is_ready());
    EXPECT_EQ(child.release(), 0);
  }
}

// The same through the transport, whose device decides about forks when it is opened.
TEST(ForkOnATransport, WritesGoOnAndTheChildKeepsItsCopy) {
  if (const std::string why = no_rdma_device(); !why.empty()) GTEST_SKIP() << why;
  VerbsPair pair(*verbs::system_verbs().value());
  auto ends = pair.connect();
  ASSERT_TRUE(pair.until([&] { return ends.connected(); })) << ends.status.to_string();
  std::vector<std::byte> from(1U << 20U), to(1U << 20U);
  const auto source =
      pair.a.device->register_memory(from, MemoryKind::kHost, Access::kLocal).value();
  const auto target =
      pair.b.device->register_memory(to, MemoryKind::kHost, Access::kRemoteWrite).value();
  const RemoteRegion remote = target->describe();
  const auto write_and_check = [&](int value) {
    std::fill(from.begin(), from.end(), static_cast<std::byte>(value));
    const int before = pair.a.events[Event::kWriteDone];
    const Status posted = ends.a->post({.opcode = Opcode::kWrite,
                                        .local = source.get(),
                                        .length = from.size(),
                                        .remote = &remote});
    return posted.ok() && pair.until([&] { return pair.a.events[Event::kWriteDone] > before; }) &&
           from == to;
  };

  ASSERT_TRUE(write_and_check(1));
  Child child([&] {
    if (from[0] != std::byte{1} || to != from) return 1;
    std::fill(from.begin(), from.end(), std::byte{0xcc});
    return 0;
  });
  ASSERT_TRUE(child.is_ready()) << "the child ended with " << child.release();
  EXPECT_EQ(from[0], std::byte{1});
  for (int round = 2; round < 10; ++round) ASSERT_TRUE(write_and_check(round)) << round;
  EXPECT_EQ(child.release(), 0);
  EXPECT_TRUE(write_and_check(10));
  ends.a->close();
  EXPECT_TRUE(pair.until([&] {
    return pair.a.events[Event::kDisconnected] == 1 && pair.b.events[Event::kDisconnected] == 1;
  }));
}

}  // namespace
}  // namespace penstock::test
