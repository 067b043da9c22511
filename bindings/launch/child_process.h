// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>

#include "transport/base/clock.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace penstock {

struct ChildExit {
  int code = 0;      // what the body returned; meaningful when signal is 0
  int signal = 0;    // what killed it, or 0
  double cpu_s = 0;  // user and system time of the child
};

// A forked copy of this process. It is killed when the thread that started it ends, however that
// happens, and killed and reaped when this object goes away, so none is ever left behind.
class ChildProcess {
 public:
  // The child runs `body` and leaves with what it returns (0…255), without running destructors or
  // exit handlers of the parent. Start children before threads: only the forking thread lives on.
  static Result<ChildProcess> start(const std::function<int()>& body);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  // Waits for the end of the child and reaps it, once. kTimeout past `deadline_ns` (SystemClock);
  // the child lives on then.
  Result<ChildExit> wait(TimeNs deadline_ns);

  void signal(int number) const;
  pid_t pid() const { return pid_; }            // −1 once reaped
  int handle() const { return handle_.get(); }  // for poll(): readable once it has ended

 private:
  ChildProcess(pid_t pid, UniqueFd handle) : pid_(pid), handle_(std::move(handle)) {}

  pid_t pid_;
  UniqueFd handle_;  // a pidfd: readable when the child has ended
};

}  // namespace penstock
