// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Clang's thread-safety annotations: which mutex guards which member, checked at compile time by
// clang (-Wthread-safety) and ignored by other compilers. `Mutex` and `MutexLock` carry them.

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define PENSTOCK_ANNOTATION(x) __attribute__((x))
#else
#define PENSTOCK_ANNOTATION(x)
#endif

#define GUARDED_BY(x) PENSTOCK_ANNOTATION(guarded_by(x))
#define REQUIRES(...) PENSTOCK_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) PENSTOCK_ANNOTATION(locks_excluded(__VA_ARGS__))

namespace penstock {

class PENSTOCK_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() PENSTOCK_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void unlock() PENSTOCK_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

class PENSTOCK_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) PENSTOCK_ANNOTATION(acquire_capability(mutex))
      : lock_(mutex.mutex_) {}
  ~MutexLock() PENSTOCK_ANNOTATION(release_capability()) {}

  // For std::condition_variable::wait*.
  std::unique_lock<std::mutex>& native() { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
};

}  // namespace penstock
