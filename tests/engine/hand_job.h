// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A whole job driven by hand on the calling thread, on the system's clock: control over a
// fault-free loopback fabric, data over the provider under test. What rounds must not need is
// counted.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/scheduler/scheduler.h"
#include "engine/server/server.h"
#include "engine/worker/worker.h"
#include "tests/support/counting_device.h"
#include "tests/support/counting_hub.h"
#include "transport/loopback/fabric.h"

namespace penstock::test {

using OpenDevice = std::function<Result<std::unique_ptr<Device>>(Incarnation)>;

struct HandJobOptions {
  std::string transport = "loopback";
  OpenDevice open;  // instead of `transport`
  std::uint32_t workers = 1;
  std::uint32_t servers = 1;
  std::uint32_t lanes = 1;
  std::uint64_t slice_bytes = 4096;
  ComputeDevice* compute = nullptr;  // of the servers
  RegionCache::KindOf kind_of;       // of the workers' buffers
};

class HandJob {
 public:
  explicit HandJob(const HandJobOptions& options);
  ~HandJob();

  Worker& worker(Rank rank) { return *workers_[rank]; }
  Server& server(Rank rank) { return *servers_[rank]; }

  // One pass over every loop. Returns how much was done.
  std::size_t step();
  // Steps until `condition` holds; false after ten seconds.
  template <class Condition>
  bool run_until(Condition condition) {
    const TimeNs deadline_ns = clock_.now_ns() + 10 * kSecond;
    while (!condition()) {
      if (clock_.now_ns() > deadline_ns) return false;
      if (step() == 0) arm();
    }
    return true;
  }
  // Steps until the ticket is done; its status.
  Status finish(Rank worker, Ticket ticket);
  bool round_finished(Key key, Round round);  // on every worker

  // Of all roles together, since the start.
  SetUpCalls set_up_calls() const;
  std::uint64_t control_messages() const;  // without heartbeats
  std::uint64_t heartbeats() const;
  std::uint64_t device_counter(const std::string& name) const;  // the sum of those that end so

 private:
  class Host final : public LaneHost {
   public:
    Status start_lane(Loop& lane, std::uint32_t) override {
      lanes.push_back(&lane);
      return {};
    }
    std::vector<Loop*> lanes;
  };
  void arm();
  Device& add_device();
  ControlHub& add_hub();

  const HandJobOptions options_;
  SystemClock clock_;
  LoopbackFabric fabric_;
  Host host_;
  std::vector<std::unique_ptr<CountingHub>> hubs_;
  std::vector<std::unique_ptr<CountingDevice>> devices_;
  std::vector<Incarnation> incarnations_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<std::unique_ptr<Server>> servers_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// A tensor of floats with sgd, rate 1 and sum: parameters are initial − Σ gradients.
struct Counted {
  explicit Counted(std::uint64_t elements) : gradients(elements), parameters(elements) {}
  Tensor tensor(Key key);
  std::vector<float> gradients, parameters;
};

}  // namespace penstock::test
