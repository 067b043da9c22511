// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/loopback/timeline.h"

#include <algorithm>

namespace penstock::loopback {

Timeline::Handle Timeline::add(Subject& subject) {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const std::uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot].subject = &subject;
  return Handle{++slots_[slot].generation} << 32 | slot;
}

void Timeline::remove(Handle handle) {
  const auto slot = static_cast<std::uint32_t>(handle);
  slots_[slot].subject = nullptr;
  free_.push_back(slot);
}

void Timeline::schedule(TimeNs at_ns, Handle handle, std::uint64_t what) {
  events_.push_back({at_ns, ++scheduled_, handle, what});
  std::push_heap(events_.begin(), events_.end());
}

std::size_t Timeline::run_due() {
  const TimeNs now_ns = clock_.now_ns();
  std::size_t count = 0;
  while (next_ns() <= now_ns && !events_.empty()) {
    std::pop_heap(events_.begin(), events_.end());
    const Event event = events_.back();
    events_.pop_back();
    const Slot& slot = slots_[static_cast<std::uint32_t>(event.handle)];
    if (slot.subject == nullptr || slot.generation != event.handle >> 32) continue;
    slot.subject->on_due(event.what);
    ++count;
  }
  return count;
}

TimeNs Timeline::draw_delay(const DelayRange& range) {
  const auto width = static_cast<std::uint64_t>(range.max_ns - range.min_ns);
  TimeNs delay_ns = range.min_ns + static_cast<TimeNs>(random_.below(width + 1));
  if (random_.chance(plan_.spike_per_million)) delay_ns += plan_.spike_ns;
  return delay_ns;
}

}  // namespace penstock::loopback
