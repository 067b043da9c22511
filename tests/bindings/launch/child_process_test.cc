// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/launch/child_process.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace penstock {
namespace {

constexpr TimeNs kPatience = 20 * kSecond;
TimeNs soon() { return SystemClock().now_ns() + kPatience; }

int sleep_for_ever() {
  while (true) pause();
}

// Whether `pid` is gone, waiting for it until the deadline.
bool goes_away(pid_t pid) {
  for (const TimeNs deadline_ns = soon(); SystemClock().now_ns() < deadline_ns; sched_yield())
    if (kill(pid, 0) != 0 && errno == ESRCH) return true;
  return false;
}

TEST(ChildProcess, HandsBackWhatItsBodyReturned) {
  Result<ChildProcess> child = ChildProcess::start([] { return 42; });
  ASSERT_TRUE(child.ok());
  Result<ChildExit> exit = child->wait(soon());
  ASSERT_TRUE(exit.ok()) << exit.status().to_string();
  EXPECT_EQ(exit->code, 42);
  EXPECT_EQ(exit->signal, 0);
  EXPECT_EQ(child->pid(), -1);
}

TEST(ChildProcess, SaysWhatKilledIt) {
  Result<ChildProcess> child = ChildProcess::start(sleep_for_ever);
  ASSERT_TRUE(child.ok());
  child->signal(SIGTERM);
  Result<ChildExit> exit = child->wait(soon());
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->signal, SIGTERM);
}

TEST(ChildProcess, WaitEndsAtItsDeadlineAndTheChildLivesOn) {
  Result<ChildProcess> child = ChildProcess::start(sleep_for_ever);
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->wait(SystemClock().now_ns() + kMillisecond).status().code(), Code::kTimeout);
  EXPECT_EQ(kill(child->pid(), 0), 0);
}

TEST(ChildProcess, IsKilledAndReapedWithItsObject) {
  pid_t pid = -1;
  {
    Result<ChildProcess> child = ChildProcess::start(sleep_for_ever);
    ASSERT_TRUE(child.ok());
    pid = child->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(ChildProcess, DiesWithAParentThatIsKilled) {
  void* shared =
      mmap(nullptr, sizeof(pid_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* grandchild = static_cast<volatile pid_t*>(shared);
  Result<ChildProcess> parent = ChildProcess::start([&] {
    Result<ChildProcess> child = ChildProcess::start(sleep_for_ever);
    *grandchild = child->pid();
    kill(getpid(), SIGKILL);
    return 0;
  });
  ASSERT_TRUE(parent.ok());
  ASSERT_TRUE(parent->wait(soon()).ok());
  ASSERT_GT(*grandchild, 0);
  EXPECT_TRUE(goes_away(*grandchild));
  munmap(shared, sizeof(pid_t));
}

}  // namespace
}  // namespace penstock
