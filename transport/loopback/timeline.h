// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The scheduled events of a fabric with a fault plan and the one stream its accidents are drawn
// from. One thread.

#include <cstdint>
#include <vector>

#include "transport/base/random.h"
#include "transport/loopback/fault_plan.h"

namespace penstock::loopback {

class Timeline {
 public:
  // What events happen to.
  class Subject {
   public:
    virtual void on_due(std::uint64_t what) = 0;

   protected:
    ~Subject() = default;
  };
  using Handle = std::uint64_t;  // generation << 32 | slot

  Timeline(const Clock& clock, const FaultPlan& plan)
      : clock_(clock), plan_(plan), random_(plan.seed) {}

  Handle add(Subject& subject);
  void remove(Handle handle);  // its events no longer happen

  // Events of equal time happen in the order they were scheduled.
  void schedule(TimeNs at_ns, Handle handle, std::uint64_t what);
  std::size_t run_due();
  TimeNs next_ns() const { return events_.empty() ? kNever : events_.front().at_ns; }

  TimeNs now_ns() const { return clock_.now_ns(); }
  const FaultPlan& plan() const { return plan_; }
  TimeNs draw_data_delay() { return draw_delay(plan_.data); }
  TimeNs draw_control_delay() { return draw_delay(plan_.control); }
  bool draw(std::uint32_t per_million) { return random_.chance(per_million); }
  std::uint64_t draw_below(std::uint64_t bound) { return random_.below(bound); }

 private:
  struct Event {
    TimeNs at_ns;
    std::uint64_t serial;
    Handle handle;
    std::uint64_t what;
    // For a heap whose front is the earliest.
    bool operator<(const Event& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : serial > other.serial;
    }
  };
  struct Slot {
    Subject* subject = nullptr;
    std::uint32_t generation = 0;
  };

  TimeNs draw_delay(const DelayRange& range);

  const Clock& clock_;
  const FaultPlan plan_;
  SeededRandom random_;
  std::uint64_t scheduled_ = 0;
  std::vector<Event> events_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
};

}  // namespace penstock::loopback
