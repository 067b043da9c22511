// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/launch/child_process.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>

namespace penstock {
namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// By number: the declaration in glibc 2.36 (Debian 12) cannot be linked from C++.
int open_pidfd(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

[[noreturn]] void run_child(const std::function<int()>& body, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // it died before we asked to follow it
  const int code = body();
  std::fflush(nullptr);
  _exit(code);
}

}  // namespace

Result<ChildProcess> ChildProcess::start(const std::function<int()>& body) {
  const pid_t parent = getpid();
  std::fflush(nullptr);  // or the child would write the parent's buffered text once more
  const pid_t pid = fork();
  if (pid < 0) return Status::system("cannot fork", errno);
  if (pid == 0) run_child(body, parent);
  ChildProcess child(pid, UniqueFd(open_pidfd(pid)));
  if (!child.handle_.valid()) return Status::system("cannot open a pidfd", errno);
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), handle_(std::move(other.handle_)) {}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

Result<ChildExit> ChildProcess::wait(TimeNs deadline_ns) {
  CHECK(pid_ > 0, "waited for twice");
  pollfd ended{handle_.get(), POLLIN, 0};
  int ready = 0;
  while (true) {
    const TimeNs left_ns = std::max<TimeNs>(0, deadline_ns - SystemClock().now_ns());
    // Rounded up, or the last millisecond would be spent spinning.
    const TimeNs left_ms = std::min<TimeNs>((left_ns + kMillisecond - 1) / kMillisecond, INT_MAX);
    ready = poll(&ended, 1, static_cast<int>(left_ms));
    if (ready > 0 || (ready < 0 && errno != EINTR)) break;
    if (left_ns == 0)
      return Status(Code::kTimeout, fmt::format("process {} did not end in time", pid_));
  }
  if (ready < 0) return Status::system("cannot wait for a child", errno);
  int state = 0;
  rusage usage{};
  if (wait4(pid_, &state, 0, &usage) < 0) return Status::system("cannot reap a child", errno);
  pid_ = -1;
  ChildExit exit;
  exit.code = WIFEXITED(state) ? WEXITSTATUS(state) : 0;
  exit.signal = WIFSIGNALED(state) ? WTERMSIG(state) : 0;
  exit.cpu_s = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  return exit;
}

}  // namespace penstock
