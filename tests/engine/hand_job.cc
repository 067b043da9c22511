// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/hand_job.h"

#include <fmt/format.h>

#include "kernels/table.h"
#include "transport/base/random.h"
#include "transport/providers.h"

namespace penstock::test {

HandJob::HandJob(const HandJobOptions& options) : options_(options), fabric_(clock_) {
  SchedulerOptions scheduler;
  scheduler.listen_address = "scheduler:0";
  scheduler.workers = options.workers;
  scheduler.servers = options.servers;
  scheduler.lanes = options.lanes;
  scheduler.slice_bytes = options.slice_bytes;
  scheduler_ = std::make_unique<Scheduler>(clock_, add_hub(), scheduler);
  CHECK(scheduler_->start().ok());
  for (Rank rank = 0; rank < options.servers; ++rank) {
    Device& device = add_device();
    ServerOptions role;
    role.scheduler_address = scheduler_->address();
    role.listen_address = fmt::format("server{}:0", rank);
    role.name = fmt::format("server{}", rank);
    role.rank = rank;
    role.incarnation = incarnations_.back();
    role.compute = options.compute;
    servers_.push_back(
        std::make_unique<Server>(clock_, device, add_hub(), best_kernels(), host_, role));
    CHECK(servers_.back()->start().ok());
  }
  for (Rank rank = 0; rank < options.workers; ++rank) {
    Device& device = add_device();
    WorkerOptions role;
    role.scheduler_address = scheduler_->address();
    role.name = fmt::format("worker{}", rank);
    role.kind_of = options.kind_of;
    role.rank = rank;
    role.incarnation = incarnations_.back();
    workers_.push_back(
        std::make_unique<Worker>(clock_, device, add_hub(), best_kernels(), host_, role));
    CHECK(workers_.back()->start().ok());
  }
  for (Rank rank = 0; rank < options.workers; ++rank) {
    const Status joined = finish(rank, workers_[rank]->join_ticket());
    CHECK(joined.ok(), "{}", joined.to_string());
  }
}

HandJob::~HandJob() = default;

Device& HandJob::add_device() {
  incarnations_.push_back(random_u64());
  DeviceOptions device;
  device.provider = options_.transport;
  device.incarnation = incarnations_.back();
  device.fabric = &fabric_;
  auto opened = options_.open ? options_.open(device.incarnation) : open_device(device, clock_);
  CHECK(opened.ok(), "{}", opened.status().to_string());
  devices_.push_back(std::make_unique<CountingDevice>(std::move(*opened)));
  return *devices_.back();
}

ControlHub& HandJob::add_hub() {
  hubs_.push_back(std::make_unique<CountingHub>(fabric_.create_hub()));
  return *hubs_.back();
}

std::size_t HandJob::step() {
  std::size_t done = 0;
  // Who connects, then who accepts, then the devices that take new connections in: as with threads,
  // a lane learns that a queue pair is up before the peer's next one asks for it.
  for (auto lane = host_.lanes.rbegin(); lane != host_.lanes.rend(); ++lane)
    done += (*lane)->run_once();
  done += scheduler_->run_once();
  for (const auto& server : servers_) done += server->run_once();
  for (const auto& worker : workers_) done += worker->run_once();
  return done;
}

void HandJob::arm() {
  for (Loop* lane : host_.lanes) lane->arm();
}

Status HandJob::finish(Rank rank, Ticket ticket) {
  std::optional<Status> status;
  const bool done = run_until([&] { return (status = workers_[rank]->poll(ticket)).has_value(); });
  return done ? *status : Status(Code::kTimeout, "the ticket was not done in ten seconds");
}

bool HandJob::round_finished(Key key, Round round) {
  for (const auto& worker : workers_) {
    const Result<bool> finished = worker->finished(key, round);
    if (!finished.ok() || !finished.value()) return false;
  }
  return true;
}

SetUpCalls HandJob::set_up_calls() const {
  SetUpCalls sum;
  for (const auto& device : devices_) sum += device->calls();
  return sum;
}

std::uint64_t HandJob::control_messages() const {
  std::uint64_t sum = 0;
  for (const auto& hub : hubs_) sum += hub->messages();
  return sum;
}

std::uint64_t HandJob::heartbeats() const {
  std::uint64_t sum = 0;
  for (const auto& hub : hubs_) sum += hub->heartbeats();
  return sum;
}

std::uint64_t HandJob::device_counter(const std::string& name) const {
  std::uint64_t sum = 0;
  for (const auto& device : devices_)
    for (const Counter& counter : device->counters())
      if (counter.name.ends_with(name)) sum += counter.value;
  return sum;
}

Tensor Counted::tensor(Key key) {
  Tensor tensor;
  tensor.key = key;
  tensor.spec.name = "counted";
  tensor.spec.shape = {gradients.size()};
  tensor.spec.optimizer.learning_rate = 1;
  tensor.spec.reduce = Reduce::kSum;
  tensor.gradients = std::as_writable_bytes(std::span(gradients));
  tensor.parameters = std::as_writable_bytes(std::span(parameters));
  return tensor;
}

}  // namespace penstock::test
