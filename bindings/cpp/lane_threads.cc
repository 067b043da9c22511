// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/lane_threads.h"

#include <fmt/format.h>

#include "transport/base/log.h"

namespace penstock {
LaneThreads::LaneThreads(const Clock& clock, const Topology& topology, ThreadOptions options,
                         std::string name)
    : clock_(clock), topology_(topology), options_(options), name_(std::move(name)) {}

Status LaneThreads::start_lane(Loop& lane, std::uint32_t index) {
  LoopThreadOptions thread;
  thread.name = fmt::format("{}-lane{}", name_, index);
  thread.spin_ns = options_.spin_ns;
  if (options_.pin) {
    const std::vector<int> cpu = topology_.plan_lanes(1, options_.first_cpu + index);
    if (!cpu.empty()) thread.cpu = cpu.front();
    if (cpu.empty() && !said_) {
      PENSTOCK_LOG_INFO("{}: more lanes than processors ({}); lanes from {} on are not pinned",
                        name_, topology_.cpus().size(), index);
      said_ = true;
    }
  }
  threads_.push_back(std::make_unique<LoopThread>(lane, clock_, std::move(thread)));
  return {};
}

}  // namespace penstock
