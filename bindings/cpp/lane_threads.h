// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/runtime/loop_thread.h"
#include "engine/runtime/spinner.h"
#include "engine/runtime/topology.h"

namespace penstock {

// How the threads of a process are laid out.
struct ThreadOptions {
  bool pin = true;                       // lanes to processors of their own, where there are enough
  std::uint32_t first_cpu = 0;           // among the processors this process may use
  TimeNs spin_ns = Spinner::kDefaultNs;  // before an idle lane sleeps; 0: it sleeps at once
};

// Gives every lane a thread, pinned if there are processors enough.
class LaneThreads final : public LaneHost {
 public:
  LaneThreads(const Clock& clock, const Topology& topology, ThreadOptions options,
              std::string name);
  Status start_lane(Loop& lane, std::uint32_t index) override;
  void stop() { threads_.clear(); }  // returns when all have ended

 private:
  const Clock& clock_;
  const Topology& topology_;
  const ThreadOptions options_;
  const std::string name_;
  bool said_ = false;
  std::vector<std::unique_ptr<LoopThread>> threads_;
};

}  // namespace penstock
