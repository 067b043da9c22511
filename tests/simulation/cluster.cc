// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/simulation/cluster.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/support/host_gpu/host_gpu.h"

namespace penstock::test {
namespace {

// Keeps lanes for the loop below instead of giving them threads.
class StepHost final : public LaneHost {
 public:
  Status start_lane(Loop& lane, std::uint32_t) override {
    lanes.push_back(&lane);
    return {};
  }
  std::vector<Loop*> lanes;
};

// One process: everything it owns, destroyed together when it dies.
struct Process {
  Member member;
  StepHost host;
  std::unique_ptr<ControlHub> hub;
  std::unique_ptr<Device> device;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<Server> server;
  std::unique_ptr<Worker> worker;
  bool frozen = false;

  std::size_t run_once() {
    std::size_t done = 0;
    if (scheduler) done += scheduler->run_once();
    if (server) done += server->run_once();
    if (worker) done += worker->run_once();
    for (Loop* lane : host.lanes) done += lane->run_once();
    return done;
  }
  // Sleeping is where held-back work is pushed out.
  void arm() {
    for (Loop* lane : host.lanes) lane->arm();
  }
  TimeNs next_deadline_ns() const {
    TimeNs next_ns = kNever;
    if (scheduler) next_ns = std::min(next_ns, scheduler->next_deadline_ns());
    if (server) next_ns = std::min(next_ns, server->next_deadline_ns());
    if (worker) next_ns = std::min(next_ns, worker->next_deadline_ns());
    return next_ns;
  }
};

class Cluster {
 public:
  explicit Cluster(const ClusterOptions& options)
      : options_(options), random_(options.seed ^ 0xc1u), fabric_(clock_, options.faults) {
    if (options.gpu) {
      cuda_ = std::make_unique<FakeCuda>();
      gpu_ = std::make_unique<HostGpu>(*cuda_, options.seed);
    }
    start_scheduler();
    for (Rank rank = 0; rank < options.servers; ++rank) start_server(rank);
    for (Rank rank = 0; rank < options.workers; ++rank) start_worker(rank);
  }

  ClusterResult run();

 private:
  Process& add(Role role, Rank rank);
  void start_scheduler();
  void start_server(Rank rank);
  void start_worker(Rank rank);
  bool step();
  void advance();
  void cut_something();
  void kill(const Death& death);
  bool ended() const;

  const ClusterOptions options_;
  SeededRandom random_;
  ManualClock clock_;
  LoopbackFabric fabric_;
  std::unique_ptr<FakeCuda> cuda_;
  std::unique_ptr<HostGpu> gpu_;  // before processes_, which use it
  std::string scheduler_address_;
  std::vector<std::unique_ptr<Program>> programs_;  // [worker]; their buffers outlive processes_
  std::vector<std::unique_ptr<Process>> processes_;
  Rank dead_worker_ = kAnyRank;  // does not run any more
  std::size_t next_cut_ = 0;
  bool killed_ = false;
  ClusterResult result_;
};

Process& Cluster::add(Role role, Rank rank) {
  auto process = std::make_unique<Process>();
  process->member = {role, rank, random_.next() | 1U, fmt::format("{}{}", role_name(role), rank),
                     {},   {}};
  process->hub = fabric_.create_hub();
  if (role != Role::kScheduler)
    process->device = fabric_.create_device(process->member.incarnation);
  processes_.push_back(std::move(process));
  return *processes_.back();
}

void Cluster::start_scheduler() {
  Process& process = add(Role::kScheduler, 0);
  SchedulerOptions role;
  role.listen_address = "scheduler:0";
  role.name = process.member.name;
  role.workers = options_.workers;
  role.servers = options_.servers;
  role.lanes = options_.lanes;
  role.slice_bytes = options_.slice_bytes;
  role.detect_ns = options_.detect_ns;
  process.scheduler = std::make_unique<Scheduler>(clock_, *process.hub, role);
  const Status started = process.scheduler->start();
  CHECK(started.ok(), "{}", started.to_string());
  scheduler_address_ = process.scheduler->address();
}

void Cluster::start_server(Rank rank) {
  Process& process = add(Role::kServer, rank);
  ServerOptions role;
  role.scheduler_address = scheduler_address_;
  role.listen_address = fmt::format("server{}:0", rank);
  role.name = process.member.name;
  role.rank = rank;
  role.incarnation = process.member.incarnation;
  role.detect_ns = options_.detect_ns;
  role.compute = gpu_.get();
  process.server = std::make_unique<Server>(clock_, *process.device, *process.hub, best_kernels(),
                                            process.host, role);
  const Status started = process.server->start();
  CHECK(started.ok(), "{}", started.to_string());
}

void Cluster::start_worker(Rank rank) {
  Process& process = add(Role::kWorker, rank);
  WorkerOptions role;
  role.scheduler_address = scheduler_address_;
  role.name = process.member.name;
  role.rank = rank;
  role.incarnation = process.member.incarnation;
  role.detect_ns = options_.detect_ns;
  process.worker = std::make_unique<Worker>(clock_, *process.device, *process.hub, best_kernels(),
                                            process.host, role);
  const Status started = process.worker->start();
  CHECK(started.ok(), "{}", started.to_string());
  programs_.push_back(std::make_unique<Program>(*process.worker, options_.program, random_.next()));
}

bool Cluster::step() {
  std::size_t done = fabric_.step();
  for (const auto& process : processes_)
    if (!process->frozen) done += process->run_once();
  for (Rank rank = 0; rank < programs_.size(); ++rank)
    if (rank != dead_worker_ && programs_[rank]->run_once()) ++done;
  return done > 0;
}

void Cluster::advance() {
  TimeNs next_ns = fabric_.next_event_ns();
  for (const auto& process : processes_) {
    if (process->frozen) continue;
    process->arm();
    next_ns = std::min(next_ns, process->next_deadline_ns());
  }
  if (next_cut_ < options_.cuts_ns.size()) next_ns = std::min(next_ns, options_.cuts_ns[next_cut_]);
  if (options_.death && !killed_) next_ns = std::min(next_ns, options_.death->at_ns);
  // A millisecond at the least: deadlines that are due but cannot be met must not stop time.
  const TimeNs step_ns = next_ns == kNever ? kMillisecond : next_ns - clock_.now_ns();
  clock_.advance(std::clamp(step_ns, kMicrosecond, 100 * kMillisecond));
}

void Cluster::cut_something() {
  std::vector<std::string> servers, workers;
  for (const auto& process : processes_) {
    if (process->device == nullptr) continue;
    (process->server ? servers : workers).push_back(process->device->address());
  }
  if (servers.empty() || workers.empty()) return;
  fabric_.cut_endpoints(servers[random_.below(servers.size())],
                        workers[random_.below(workers.size())]);
}

void Cluster::kill(const Death& death) {
  killed_ = true;
  for (auto process = processes_.begin(); process != processes_.end(); ++process) {
    if ((*process)->member.role != death.role || (*process)->member.rank != death.rank) continue;
    if (death.role == Role::kWorker) {
      programs_[death.rank]->audit_running();
      result_.audit_error += programs_[death.rank]->audit_error();
      dead_worker_ = death.rank;
    }
    const auto how = death.silent ? LoopbackFabric::Death::kSilent : LoopbackFabric::Death::kLoud;
    fabric_.kill(*(*process)->hub, how);
    if ((*process)->device) fabric_.kill(*(*process)->device, how);
    (*process)->frozen = true;
    return;
  }
}

bool Cluster::ended() const {
  for (Rank rank = 0; rank < programs_.size(); ++rank)
    if (rank != dead_worker_ && !programs_[rank]->done()) return false;
  return true;
}

ClusterResult Cluster::run() {
  constexpr TimeNs kLimitNs = 120 * kSecond;
  while (!ended() && clock_.now_ns() < kLimitNs) {
    while (next_cut_ < options_.cuts_ns.size() && clock_.now_ns() >= options_.cuts_ns[next_cut_]) {
      cut_something();
      ++next_cut_;
    }
    if (options_.death && !killed_ && clock_.now_ns() >= options_.death->at_ns)
      kill(*options_.death);
    if (!step()) advance();
  }
  result_.finished = ended();
  result_.virtual_ns = clock_.now_ns();
  if (killed_) result_.noticed_after_ns = clock_.now_ns() - options_.death->at_ns;
  for (Rank rank = 0; rank < programs_.size(); ++rank) {
    if (rank == dead_worker_) {
      result_.programs.push_back(Status(Code::kCancelled, "killed"));
      continue;
    }
    programs_[rank]->audit_running();
    result_.started = result_.started && programs_[rank]->joined();
    result_.audit_error += programs_[rank]->audit_error();
    result_.programs.push_back(programs_[rank]->result());
  }
  result_.fingerprint = programs_[0]->fingerprint();
  processes_.clear();  // before the buffers they have registered
  return result_;
}

}  // namespace

ClusterResult run_cluster(const ClusterOptions& options) { return Cluster(options).run(); }

}  // namespace penstock::test
