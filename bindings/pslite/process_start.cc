// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Process: how it enters a job and leaves it.

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>

#include "bindings/pslite/process.h"
#include "transport/base/log.h"

namespace penstock::pslite {
namespace {

constexpr TimeNs kLeaveNs = 10 * kSecond;  // for the others to leave as well, after the barrier
constexpr TimeNs kAloneNs = 30 * kSecond;  // without one
constexpr TimeNs kDrainNs = 5 * kSecond;   // for requests that nobody waited for
constexpr auto kOthers = std::chrono::seconds(5);  // for this process's other customers
constexpr auto kLook = std::chrono::milliseconds(10);

}  // namespace

// ---- beginning ----------------------------------------------------------------------------------

Status Process::start(int customer, std::optional<Part> part, int rank, bool with_barrier) {
  bool first = false;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stage_ != Stage::kEnding; });
    first = stage_ == Stage::kIdle;
    if (first) stage_ = Stage::kStarting;
  }
  Status started = first ? start_first(customer, part, rank) : start_more(customer);
  if (!started.ok()) return started;
  if (customer != 0) {
    const std::lock_guard lock(mutex_);
    others_.insert(customer);
  }
  return with_barrier ? barrier(-1, 0, customer, 7) : Status();
}

std::shared_ptr<Instance> Process::make_instance(Role role, int index, int customer) {
  const ResendOptions resend{settings_.resend, settings_.resend ? settings_.drop_percent : 0,
                             settings_.resend_ns};
  const auto instance =
      std::make_shared<Instance>(static_cast<Postbox&>(*this), role, index, customer, resend);
  instances_.push_back(instance);
  return instance;
}

Status Process::start_first(int customer, std::optional<Part> part, int rank) {
  Result<Settings> settings = read_settings(environment_, part);
  Status started = settings.status();
  if (started.ok()) {
    if (const std::string unknown = unknown_variables(environment_); !unknown.empty())
      PENSTOCK_LOG_WARN("ps: these variables mean nothing here: {}", unknown);
    if (settings->drop_percent > 0 && !settings->resend)
      PENSTOCK_LOG_WARN(
          "ps: PS_DROP_MSG without PS_RESEND=1 would lose messages for good: ignored");
    if (settings->verbose == 0) spdlog::set_level(spdlog::level::warn);
    {
      const std::lock_guard lock(mutex_);
      settings_ = *settings;
    }
    started = start_instances(customer, rank);
  }
  if (!started.ok()) {
    stop_instances();
    const std::lock_guard lock(mutex_);
    stage_ = Stage::kIdle;
    failure_ = started;
    changed_.notify_all();
    return started;
  }
  const std::lock_guard lock(mutex_);
  stage_ = Stage::kRunning;
  ::setenv("DMLC_RANK", std::to_string(rank_of(instances_.front()->id())).c_str(), 1);
  changed_.notify_all();
  return {};
}

Status Process::start_instances(int customer, int rank) {
  const Settings settings = settings_;
  std::vector<std::shared_ptr<Instance>> mine;
  {
    const std::lock_guard lock(mutex_);
    failure_.reset();
    const auto add = [&](Role role) {
      for (int i = 0; i < settings.group; ++i) mine.push_back(make_instance(role, i, customer));
    };
    if (settings.part == Part::kWorker || settings.part == Part::kJoint) add(Role::kWorker);
    if (settings.part == Part::kServer || settings.part == Part::kJoint) add(Role::kServer);
    if (settings.part == Part::kScheduler)
      mine.push_back(make_instance(Role::kScheduler, 0, customer));
    watching_ = true;
    changed_.notify_all();
  }
  watcher_ = std::thread([this] { watch(); });
  std::vector<std::thread> threads;
  std::vector<Status> ends(mine.size());
  for (std::size_t i = 0; i < mine.size(); ++i)
    threads.emplace_back([&, i] {
      const int instance_rank = rank < 0 ? -1 : rank * settings.group + mine[i]->index();
      ends[i] = run(mine[i], instance_rank);
    });
  for (std::thread& thread : threads) thread.join();
  for (const Status& end : ends)
    if (!end.ok()) return end;
  return settings.part == Part::kScheduler ? wait_for_hellos() : Status();
}

// A customer of a process that has started takes a worker's place of its own while the job gathers,
// and shares one after that.
Status Process::start_more(int customer) {
  std::shared_ptr<Instance> mine;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stage_ != Stage::kStarting || !instances_.empty(); });
    const bool worker = settings_.part == Part::kWorker || settings_.part == Part::kJoint;
    const bool known = std::any_of(instances_.begin(), instances_.end(),
                                   [&](const auto& each) { return each->customer() == customer; });
    if (stage_ == Stage::kStarting && worker && !known)
      mine = make_instance(Role::kWorker, 0, customer);
  }
  if (mine != nullptr) PENSTOCK_RETURN_IF_ERROR(run(mine, -1));
  return wait_until_running();
}

Status Process::wait_until_running() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stage_ != Stage::kStarting; });
  if (stage_ == Stage::kRunning) return {};
  return failure_ ? *failure_ : Status(Code::kCancelled, "the process leaves the job");
}

NodeOptions Process::node_options(Role role, int rank) const {
  NodeOptions node;
  node.scheduler = settings_.root;
  node.listen = role == Role::kScheduler
                    ? settings_.root
                    : fmt::format("{}:{}", settings_.host, settings_.listen_port);
  node.transport = settings_.transport;
  node.rank = rank < 0 ? kAnyRank : static_cast<Rank>(rank);
  node.insecure = settings_.insecure;
  node.threads.pin = false;  // several of these programs share a host
  node.detect_ns = settings_.detect_ns;
  return node;
}

Status Process::run(const std::shared_ptr<Instance>& instance, int rank) {
  SchedulerOptions job;
  job.workers = settings_.worker_slots();
  job.servers = settings_.server_slots();
  // A worker too many shares the node of another customer of this process.
  const auto covered = [&] {
    const auto all = instances();
    return std::any_of(all.begin(), all.end(), [&](const auto& each) {
      return each->role() == instance->role() && each->index() == instance->index() &&
             each->running();
    });
  };
  const Status started = instance->start(node_options(instance->role(), rank), job,
                                         clock_.now_ns() + settings_.start_ns, covered);
  if (started.code() == Code::kAlreadyExists && covered()) {
    const std::lock_guard lock(mutex_);
    std::erase(instances_, instance);
    return {};
  }
  if (!started.ok() || instance->role() == Role::kScheduler) return started;
  return instance->send(make(Kind::kHello, kSchedulerId));
}

// The scheduler: until every node runs.
Status Process::wait_for_hellos() {
  std::unique_lock lock(mutex_);
  const std::size_t all = settings_.worker_slots() + settings_.server_slots();
  changed_.wait(lock, [&] { return failure_ || hellos_.size() >= all; });
  return failure_ ? *failure_ : Status();
}

// ---- watching -----------------------------------------------------------------------------------

std::optional<Status> Process::look() {
  for (const auto& instance : instances()) {
    instance->resend();
    if (auto failed = instance->failure()) return failed;
  }
  refuse_late(clock_.now_ns());
  return {};
}

void Process::watch() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kLook, [this] { return !watching_; });
      if (!watching_) return;
    }
    if (auto failed = look()) lost(*failed);
  }
}

// ---- end ----------------------------------------------------------------------------------------

void Process::on_exit(std::function<void()> run) {
  const std::lock_guard lock(mutex_);
  exits_.push_back(std::move(run));
}

Status Process::finalize(int customer, bool with_barrier) {
  {
    const std::lock_guard lock(mutex_);
    if (stage_ != Stage::kRunning) return {};
  }
  Status met;
  if (with_barrier) {
    drain();
    met = barrier(-1, 0, customer, 7);
  }
  if (customer != 0) {
    const std::lock_guard lock(mutex_);
    others_.erase(customer);
    changed_.notify_all();
    return met.code() == Code::kCancelled ? Status() : met;
  }
  if (!met.ok()) PENSTOCK_LOG_ERROR("ps: Finalize: {}", met.to_string());
  {
    // Other customers may still be at work, or about to learn that the barrier is over. One that
    // ends after this one on the same thread cannot be waited for.
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kOthers,
                      [this] { return failure_ || (tickets_.empty() && others_.empty()); });
    stage_ = Stage::kEnding;
  }
  for (const auto& instance : instances()) {
    if (!instance->running() || instance->failure()) continue;
    const Status left = instance->leave(with_barrier ? kLeaveNs : kAloneNs);
    if (!left.ok()) PENSTOCK_LOG_WARN("ps: node {} leaves: {}", instance->id(), left.to_string());
  }
  tear_down();
  return met;
}

// Requests that nobody waited for are answered before this node goes, if they ever are.
void Process::drain() {
  const TimeNs deadline_ns = clock_.now_ns() + kDrainNs;
  while (clock_.now_ns() < deadline_ns) {
    bool idle = true;
    {
      const std::shared_lock lock(customers_mutex_);
      for (Customer* const customer : customers_) idle &= customer->idle();
    }
    {
      const std::lock_guard lock(mutex_);
      if (idle || failure_) return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void Process::stop_instances() {
  {
    const std::lock_guard lock(mutex_);
    watching_ = false;
    changed_.notify_all();
  }
  if (watcher_.joinable()) watcher_.join();
  std::vector<std::shared_ptr<Instance>> ending;
  {
    const std::lock_guard lock(mutex_);
    ending.swap(instances_);
  }
  for (const auto& instance : ending) instance->stop();
  const std::unique_lock lock(customers_mutex_);
  parked_.clear();
}

void Process::tear_down() {
  stop_instances();
  {
    const std::shared_lock lock(customers_mutex_);
    for (Customer* const customer : customers_)
      (void)customer->fail({Code::kCancelled, "this process has left the job"});
  }
  std::vector<std::function<void()>> exits;
  {
    const std::lock_guard lock(mutex_);
    failure_.reset();
    dead_.clear();
    hellos_.clear();
    barriers_ = {};
    scheduler_lost_ = false;
    others_.clear();
    ++jobs_;
    exits.swap(exits_);
    stage_ = Stage::kIdle;
    changed_.notify_all();
  }
  for (const auto& run : exits) run();
}

// ---- facts --------------------------------------------------------------------------------------

Result<int> Process::fact(int office, int index, int fact) {
  Part part = Part::kWorker;
  Settings settings;
  bool running = false;
  {
    const std::lock_guard lock(mutex_);
    running = stage_ != Stage::kIdle && !instances_.empty();
    settings = settings_;
  }
  if (running) {
    part = settings.part;
  } else if (fact <= PENSTOCK_PS_IS_SCHEDULER) {
    PENSTOCK_ASSIGN_OR_RETURN(part, part_of_environment(environment_));
  }
  if (!running) {
    settings.workers = whole_or(environment_, "DMLC_NUM_WORKER", 0);
    settings.servers = whole_or(environment_, "DMLC_NUM_SERVER", 0);
    settings.group = std::max(1, whole_or(environment_, "DMLC_GROUP_SIZE", 1));
  }
  switch (fact) {
    case PENSTOCK_PS_IS_WORKER:
      return office < 0 ? part == Part::kWorker || part == Part::kJoint
                        : office == PENSTOCK_PS_WORKER;
    case PENSTOCK_PS_IS_SERVER:
      return office < 0 ? part == Part::kServer || part == Part::kJoint
                        : office == PENSTOCK_PS_SERVER;
    case PENSTOCK_PS_IS_SCHEDULER:
      return office < 0 ? part == Part::kScheduler : office == PENSTOCK_PS_SCHEDULER;
    case PENSTOCK_PS_WORKERS:
      return settings.workers;
    case PENSTOCK_PS_SERVERS:
      return settings.servers;
    case PENSTOCK_PS_WORKER_INSTANCES:
      return settings.workers * settings.group;
    case PENSTOCK_PS_SERVER_INSTANCES:
      return settings.servers * settings.group;
    case PENSTOCK_PS_GROUP_SIZE:
      return settings.group;
    case PENSTOCK_PS_IS_RECOVERY:
      return 0;  // nobody takes the place of a lost node
    case PENSTOCK_PS_VERBOSE:
      return whole_or(environment_, "PS_VERBOSE", 0);
    default:
      break;
  }
  if (!running) return fact == PENSTOCK_PS_RANK ? 0 : -1;
  std::shared_ptr<Instance> found;
  if (office < 0) {
    PENSTOCK_ASSIGN_OR_RETURN(found, main_instance(0));
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(found, carrier({office, index, 0, 0}));
  }
  if (fact == PENSTOCK_PS_NODE_ID) return found->id();
  return static_cast<int>(rank_of(found->id())) / settings.group;
}

std::vector<int> Process::dead_nodes() {
  const std::lock_guard lock(mutex_);
  std::vector<int> ids;
  for (const auto& [id, reason] : dead_) ids.push_back(id);
  return ids;
}

}  // namespace penstock::pslite
