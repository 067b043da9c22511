// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The two ends in two processes, as they are in a job; and one of them killed.

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bindings/nccl/driver.h"
#include "tests/bindings/nccl/process.h"

extern char** environ;

namespace penstock::test {
namespace {

constexpr NcclResult kOk = NcclResult::kSuccess;
using NcclProcess = NcclNet;

class Peer {
 public:
  explicit Peer(const PeerOrder& order) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO);
    ::posix_spawn_file_actions_addclose(&actions, ends[1]);
    std::string program = PENSTOCK_TEST_PEER;
    char* arguments[] = {program.data(), nullptr};
    EXPECT_EQ(::posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[0]);
    EXPECT_EQ(::write(ends[1], &order, sizeof order), static_cast<ssize_t>(sizeof order));
    ::close(ends[1]);
  }
  ~Peer() { kill(), wait(); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void kill() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
  }
  // Its exit status; −1 when a signal ended it. It ends by itself after half a minute.
  int wait() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = -1;
};

bool accept(Plugin& net, Pair& pair) {
  return until([&] {
    EXPECT_EQ(net.accept(pair.listener, &pair.receiver), kOk) << take_log();
    return pair.receiver != nullptr;
  });
}

bool all_are(Buffer& buffer, int value) {
  for (std::size_t i = 0; i < kPeerBytes; ++i)
    if (buffer.at()[i] != static_cast<std::byte>(value)) return false;
  return true;
}

TEST_P(NcclProcess, ReceivesFromAnother) {
  constexpr int kSends = 50;
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen());
  Peer peer({GetParam(), connecting_device(*net_), kSends, pair.handle});
  ASSERT_TRUE(accept(*net_, pair));
  Buffer into(*net_, pair.receiver, kPeerBytes);
  for (int i = 0; i < kSends; ++i) {
    void* receiving = receive(pair, into, kPeerBytes, 0);
    ASSERT_NE(receiving, nullptr);
    ASSERT_EQ(finish(receiving), static_cast<int>(kPeerBytes));
    ASSERT_TRUE(all_are(into, i & 0xff)) << i;
  }
  // Nothing is asked of this end any more; what the other waits for has left.
  EXPECT_EQ(peer.wait(), 0);
}

TEST_P(NcclProcess, HearsThatItsPeerWasKilled) {
  Pair pair(*net_);
  ASSERT_TRUE(pair.listen());
  Peer peer({GetParam(), connecting_device(*net_), 1'000'000, pair.handle});
  ASSERT_TRUE(accept(*net_, pair));
  Buffer into(*net_, pair.receiver, kPeerBytes);
  for (int i = 0; i < 10; ++i) ASSERT_NE(finish(receive(pair, into, kPeerBytes, 0)), -1);
  peer.kill();
  EXPECT_EQ(peer.wait(), -1);
  NcclResult result = kOk;
  ASSERT_TRUE(until([&] {  // it may have got one more off
    void* receiving = nullptr;
    result = try_receive(pair, into, kPeerBytes, 0, &receiving);
    return result != kOk || (receiving != nullptr && fails(receiving));
  }));
  EXPECT_NE(take_log().find("lost"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(V, NcclProcess, ::testing::Range(8, 13),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace penstock::test
