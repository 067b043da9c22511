// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/local_cluster.h"

#include <fmt/format.h>
#include <poll.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>

#include "bench/psbench/report_pipe.h"
#include "engine/gpu/cuda_device.h"
#include "transport/base/log.h"

namespace penstock::psbench {
namespace {

// The peak, and pages of the pool of huge ones as they are now: the system counts them apart.
std::uint64_t peak_resident_bytes() {
  std::uint64_t kilobytes = 0, pooled = 0;
  if (std::FILE* file = std::fopen("/proc/self/status", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, file) != nullptr)
      if (std::sscanf(line, "VmHWM: %lu", &kilobytes) == 0)
        std::sscanf(line, "HugetlbPages: %lu", &pooled);
    std::fclose(file);
  }
  return (kilobytes + pooled) * 1024;
}

// What each role runs with, in its own process or as a thread of a shared one.
struct Roles {
  const LocalJob& job;
  const MakeProgram& make_program;
  const Secret& secret;
  std::string scheduler;             // address, once known
  LoopbackFabric* fabric = nullptr;  // loopback: all roles share it

  NodeOptions options(std::uint32_t position, Rank rank) const {
    NodeOptions node;
    node.scheduler = scheduler;
    node.transport = job.transport;
    node.data = job.data;
    node.server_memory = job.server_memory;
    node.rank = rank;
    node.secret = &secret;
    node.fabric = fabric;
    node.detect_ns = job.detect_ns;
    node.call_timeout_ns = job.timeout_ns;
    node.threads.pin = job.pin;
    node.threads.first_cpu = position * job.lanes;
    return node;
  }

  Result<std::unique_ptr<SchedulerNode>> start_scheduler() const {
    NodeOptions node = options(0, 0);
    node.listen = fmt::format("127.0.0.1:{}", job.port);
    SchedulerOptions scheduler_options;
    scheduler_options.servers = job.servers;
    scheduler_options.workers = job.workers;
    scheduler_options.lanes = job.lanes;
    scheduler_options.slice_bytes = job.slice_bytes;
    return SchedulerNode::start(node, scheduler_options);
  }

  ServerReport run_server(Rank rank) const {
    ServerReport report;
    auto node = ServerNode::start(options(rank, rank));
    if (!node.ok()) {
      report.status = node.status();
      return report;
    }
    report.status = (*node)->wait(kNever);  // the parent ends this process at its deadline
    report.planned_bytes = (*node)->server().memory_bytes();
    report.resident_bytes = peak_resident_bytes();
    report.counters = (*node)->counters();
    return report;
  }

  WorkerReport run_worker(Rank rank) const {
    const std::unique_ptr<WorkerProgram> program = make_program();
    auto node = WorkerNode::start(options(job.servers + rank, rank));
    WorkerReport report;
    if (node.ok()) {
      report = program->run((*node)->worker());
      report.counters = (*node)->counters();
    } else {
      report.status = node.status();
    }
    return report;
  }
};

// How long the others have to report after a process died; what is alive then is ended.
constexpr TimeNs kAfterDeathNs = 10 * kSecond;

// One child and the text it has sent so far.
struct Child {
  std::string role;  // "worker 1"
  ChildProcess process;
  UniqueFd from;
  std::string text = {};
  bool ended = false;
};

// Children leave Ctrl-C to the parent, which tells worker 0 through the page.
Result<Child> start_child(std::string name, const std::function<void(int)>& role) {
  PENSTOCK_ASSIGN_OR_RETURN(Pipe pipe, make_pipe());
  const int to_parent = pipe.write.get();
  PENSTOCK_ASSIGN_OR_RETURN(ChildProcess process, ChildProcess::start([&role, to_parent] {
                              std::signal(SIGINT, SIG_IGN);
                              std::signal(SIGTERM, SIG_DFL);
                              role(to_parent);
                              return 0;
                            }));
  return Child{std::move(name), std::move(process), std::move(pipe.read)};
}

volatile std::sig_atomic_t interrupts = 0;
void on_interrupt(int) { interrupts = interrupts + 1; }

// Notes Ctrl-C and SIGTERM while it lives.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupts = 0;
    struct sigaction action = {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, &old_int_);
    ::sigaction(SIGTERM, &action, &old_term_);
  }
  ~InterruptGuard() {
    ::sigaction(SIGINT, &old_int_, nullptr);
    ::sigaction(SIGTERM, &old_term_, nullptr);
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction old_int_ = {}, old_term_ = {};
};

class LocalCluster {
 public:
  LocalCluster(const LocalJob& job, SharedPage& page, const MakeProgram& make_program)
      : job_(job), page_(page), roles_{job, make_program, secret_, {}, nullptr} {}

  Result<ClusterReport> run(const std::function<void()>& progress, TimeNs deadline_ns);

 private:
  Status start_processes(TimeNs deadline_ns);
  Status check_gpu(TimeNs deadline_ns);
  Status start_one_process();
  Status add(std::string name, const std::function<void(int)>& role);
  Status follow(const std::function<void()>& progress, TimeNs deadline_ns);
  Status reap(TimeNs deadline_ns);
  Status wait_for_address(TimeNs deadline_ns);
  ClusterReport report() const;
  ClusterReport report_of_one_process() const;
  void run_as_threads(int to_parent);

  const LocalJob& job_;
  SharedPage& page_;
  Secret secret_;
  Roles roles_;
  InterruptGuard interrupt_;
  std::vector<Child> children_;  // scheduler, servers, workers; or the one that is all of them
  Child* died_ = nullptr;        // the first that ended without a report
  Status death_;
  SystemClock clock_;
};

Status LocalCluster::add(std::string name, const std::function<void(int)>& role) {
  PENSTOCK_ASSIGN_OR_RETURN(Child child, start_child(std::move(name), role));
  page_.pids[page_.processes.load()] = child.process.pid();
  ++page_.processes;
  children_.push_back(std::move(child));
  return {};
}

// The scheduler's first line is its address, or why it has none.
Status LocalCluster::wait_for_address(TimeNs deadline_ns) {
  Child& scheduler = children_.front();
  while (scheduler.text.find('\n') == std::string::npos) {
    pollfd readable{scheduler.from.get(), POLLIN, 0};
    ::poll(&readable, 1, 100);
    if (!read_some(scheduler.from.get(), scheduler.text)) return status_report(scheduler.text);
    if (clock_.now_ns() >= deadline_ns || interrupts > 0)
      return {Code::kTimeout, "the scheduler did not start"};
  }
  const std::size_t line = scheduler.text.find('\n');
  roles_.scheduler = scheduler.text.substr(0, line);
  scheduler.text.erase(0, line + 1);
  return {};
}

Status LocalCluster::start_processes(TimeNs deadline_ns) {
  PENSTOCK_RETURN_IF_ERROR(add("scheduler", [this](int to_parent) {
    auto node = roles_.start_scheduler();
    if (!node.ok()) return write_all(to_parent, to_text(node.status()));
    write_all(to_parent, (*node)->address() + "\n");
    write_all(to_parent, to_text((*node)->wait(kNever)));
  }));
  PENSTOCK_RETURN_IF_ERROR(wait_for_address(deadline_ns));
  for (Rank rank = 0; rank < job_.servers; ++rank)
    PENSTOCK_RETURN_IF_ERROR(add(fmt::format("server {}", rank), [this, rank](int to_parent) {
      write_all(to_parent, to_text(roles_.run_server(rank)));
    }));
  for (Rank rank = 0; rank < job_.workers; ++rank)
    PENSTOCK_RETURN_IF_ERROR(add(fmt::format("worker {}", rank), [this, rank](int to_parent) {
      write_all(to_parent, to_text(roles_.run_worker(rank)));
    }));
  return {};
}

// Looks for the servers' GPU before anybody waits for them, in a process of its own: one that has
// started CUDA cannot be forked.
Status LocalCluster::check_gpu(TimeNs deadline_ns) {
  if (job_.server_memory == ServerMemory::kHost) return {};
  PENSTOCK_ASSIGN_OR_RETURN(Child child, start_child("GPU", [](int to_parent) {
                              write_all(to_parent, to_text(open_cuda_device(0).status()));
                            }));
  PENSTOCK_RETURN_IF_ERROR(child.process.wait(deadline_ns).status());
  read_some(child.from.get(), child.text);
  return status_report(child.text);
}

Status LocalCluster::start_one_process() {
  return add("the job", [this](int to_parent) { run_as_threads(to_parent); });
}

// Loopback: every role is a thread of one process; their reports are lines of one pipe.
void LocalCluster::run_as_threads(int to_parent) {
  SystemClock clock;
  LoopbackFabric fabric(clock);
  roles_.fabric = &fabric;
  auto scheduler = roles_.start_scheduler();
  if (!scheduler.ok()) return write_all(to_parent, to_text(scheduler.status()) + "\n");
  roles_.scheduler = (*scheduler)->address();
  std::vector<std::string> lines(1 + job_.servers + job_.workers);
  std::vector<std::thread> threads;
  for (Rank rank = 0; rank < job_.servers; ++rank)
    threads.emplace_back([&, rank] { lines[1 + rank] = to_text(roles_.run_server(rank)); });
  for (Rank rank = 0; rank < job_.workers; ++rank)
    threads.emplace_back(
        [&, rank] { lines[1 + job_.servers + rank] = to_text(roles_.run_worker(rank)); });
  for (std::thread& thread : threads) thread.join();
  lines[0] = to_text((*scheduler)->wait(clock.now_ns() + 5 * kSecond));
  scheduler.value().reset();
  for (const std::string& line : lines) write_all(to_parent, line + "\n");
}

Result<ClusterReport> LocalCluster::run(const std::function<void()>& progress, TimeNs deadline_ns) {
  if (job_.secret_file.empty()) {
    secret_ = Secret::random();
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(secret_, Secret::from_file(job_.secret_file));
  }
  PENSTOCK_RETURN_IF_ERROR(check_gpu(deadline_ns));
  const bool one_process = job_.transport == "loopback";
  if (Status started = one_process ? start_one_process() : start_processes(deadline_ns);
      !started.ok())
    return started;

  PENSTOCK_RETURN_IF_ERROR(follow(progress, deadline_ns));
  PENSTOCK_RETURN_IF_ERROR(reap(deadline_ns));
  ClusterReport made = one_process ? report_of_one_process() : report();
  made.death = death_;
  return made;
}

// Roles run until they are done; the second Ctrl-C does not wait for that. Rounds may go on without
// a node that died, but a measurement ends with it.
Status LocalCluster::follow(const std::function<void()>& progress, TimeNs deadline_ns) {
  for (std::size_t running = children_.size(); running > 0;) {
    if (interrupts > 0) page_.interrupted.store(true);
    if (interrupts > 1) return Status(Code::kCancelled, "interrupted twice");
    if (clock_.now_ns() >= deadline_ns) {
      if (died_ != nullptr) return {};
      return Status(Code::kTimeout, "the run did not end by its deadline");
    }
    progress();
    std::vector<pollfd> readable;
    for (const Child& child : children_)
      if (!child.ended) readable.push_back({child.from.get(), POLLIN, 0});
    ::poll(readable.data(), readable.size(), 100);
    for (Child& child : children_) {
      if (child.ended || read_some(child.from.get(), child.text)) continue;
      child.ended = true;
      --running;
      if (!child.text.empty() || died_ != nullptr) continue;
      died_ = &child;
      page_.interrupted.store(true);
      deadline_ns = std::min(deadline_ns, clock_.now_ns() + kAfterDeathNs);
    }
  }
  return {};
}

// Every process is gone afterwards, and the death of one has its reason.
Status LocalCluster::reap(TimeNs deadline_ns) {
  for (Child& child : children_) {
    if (!child.ended) child.process.signal(SIGKILL);
    const pid_t pid = child.process.pid();
    PENSTOCK_ASSIGN_OR_RETURN(const ChildExit exit, child.process.wait(deadline_ns));
    if (&child != died_) continue;
    const std::string how =
        exit.signal != 0
            ? fmt::format("was ended by signal {} ({})", exit.signal, sigdescr_np(exit.signal))
            : fmt::format("ended without a report, code {}", exit.code);
    death_ = Status(Code::kPeerLost, fmt::format("{} (process {}) {}", child.role, pid, how));
  }
  return {};
}

ClusterReport LocalCluster::report() const {
  ClusterReport report;
  report.scheduler = status_report(children_[0].text);
  for (Rank rank = 0; rank < job_.servers; ++rank)
    report.servers.push_back(server_report(children_[1 + rank].text));
  for (Rank rank = 0; rank < job_.workers; ++rank)
    report.workers.push_back(worker_report(children_[1 + job_.servers + rank].text));
  return report;
}

ClusterReport LocalCluster::report_of_one_process() const {
  std::vector<std::string> lines(1 + job_.servers + job_.workers);
  const std::string& text = children_[0].text;
  std::size_t from = 0;
  for (std::string& line : lines) {
    const std::size_t to = std::min(text.find('\n', from), text.size());
    line = text.substr(from, to - from);
    from = std::min(to + 1, text.size());
  }
  ClusterReport report;
  report.scheduler = status_report(lines[0]);
  for (Rank rank = 0; rank < job_.servers; ++rank)
    report.servers.push_back(server_report(lines[1 + rank]));
  for (Rank rank = 0; rank < job_.workers; ++rank)
    report.workers.push_back(worker_report(lines[1 + job_.servers + rank]));
  return report;
}

}  // namespace

Result<ClusterReport> run_local(const LocalJob& job, SharedPage& page,
                                const MakeProgram& make_program,
                                const std::function<void()>& progress, TimeNs deadline_ns) {
  PENSTOCK_RETURN_IF_ERROR(validate(job));
  return LocalCluster(job, page, make_program).run(progress, deadline_ns);
}

Status first_failure(const ClusterReport& report) {
  if (!report.death.ok()) return report.death;
  for (const WorkerReport& worker : report.workers)
    if (!worker.status.ok()) return worker.status;
  for (const ServerReport& server : report.servers)
    if (!server.status.ok()) return server.status;
  return report.scheduler;
}

}  // namespace penstock::psbench
