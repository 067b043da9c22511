// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Notes: small messages between any two nodes of a job, the scheduler included, over the control
// connections: the scheduler passes them on. In order from one node to another, lost only with
// the sender, the receiver or the scheduler. For coordination; data goes by open messages.

#include <span>
#include <utility>
#include <vector>

#include "engine/protocol/types.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

inline constexpr std::size_t kMaxNoteBytes = std::size_t{4} << 20;

class NoteReceiver {
 public:
  virtual ~NoteReceiver() = default;
  // On the node's control loop: be quick, hand over. `from` is what the scheduler knows, not what
  // the sender says. The scheduler's rank is 0.
  virtual void on_note(Role from, Rank rank, std::span<const std::uint8_t> body) = 0;
  // A node left (reason OK) or was lost. Nodes other than the scheduler hear of its loss only.
  virtual void on_gone(Role role, Rank rank, const Status& reason) {
    (void)role, (void)rank, (void)reason;
  }
};

struct Note {
  Role role{};  // of the receiver
  Rank rank = 0;
  std::vector<std::uint8_t> body;
};

// From any thread to the control loop, which is woken by the caller.
class NoteOutbox {
 public:
  void push(Note&& note) {
    MutexLock lock(mutex_);
    notes_.push_back(std::move(note));
  }
  std::vector<Note> take() {
    MutexLock lock(mutex_);
    return std::exchange(notes_, {});
  }
  bool empty() const {
    MutexLock lock(mutex_);
    return notes_.empty();
  }

 private:
  mutable Mutex mutex_;
  std::vector<Note> notes_ GUARDED_BY(mutex_);
};

// kInvalidArgument for a body that is too long.
Status check_note(const Note& note);

}  // namespace penstock
