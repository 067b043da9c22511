// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/node.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "engine/gpu/cuda_device.h"
#include "transport/base/log.h"
#include "transport/base/random.h"
#include "transport/control/tls_hub.h"
#include "transport/hardware/cuda_buffer.h"

namespace penstock {
namespace internal {

// What every role stands on. Destroyed bottom up, after the role; threads are stopped before it.
struct NodeParts {
  SystemClock clock;
  Incarnation incarnation = random_u64();
  std::unique_ptr<Topology> topology;
  std::unique_ptr<ControlHub> hub;
  std::unique_ptr<Device> device;
  std::unique_ptr<ComputeDevice> gpu;
  std::unique_ptr<LaneThreads> lanes;
  std::unique_ptr<LoopThread> control;

  void stop_threads() {
    control.reset();
    if (lanes) lanes->stop();
  }
};

}  // namespace internal

namespace {

using internal::NodeParts;

std::string host_of(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  return colon == std::string::npos ? address : address.substr(0, colon);
}

Result<Secret> find_secret(const NodeOptions& options) {
  if (options.insecure) return Secret();
  if (options.secret != nullptr) return options.secret->copy();
  if (!options.secret_file.empty()) return Secret::from_file(options.secret_file);
  return Secret::from_environment_file();
}

Result<std::unique_ptr<NodeParts>> make_parts(const NodeOptions& options, const char* role,
                                              bool with_device) {
  auto parts = std::make_unique<NodeParts>();
  PENSTOCK_LOG_DEBUG("a {} starts", role);  // also makes the logger before there are threads
  PENSTOCK_ASSIGN_OR_RETURN(parts->topology, Topology::load());
  Secret secret;
  if (options.fabric != nullptr) {
    parts->hub = options.fabric->create_hub();
  } else {
    TlsHubOptions hub;
    PENSTOCK_ASSIGN_OR_RETURN(secret, find_secret(options));
    hub.secret = secret.copy();
    hub.insecure = options.insecure;
    hub.user_timeout_ns = options.detect_ns;
    PENSTOCK_ASSIGN_OR_RETURN(parts->hub, create_tls_hub(hub, parts->clock));
  }
  parts->lanes =
      std::make_unique<LaneThreads>(parts->clock, *parts->topology, options.threads, role);
  if (!with_device) return parts;
  DeviceOptions device;
  device.provider = options.transport;
  device.bind_address = host_of(options.listen);
  device.advertise_host = options.advertise_host;
  device.rails = options.rails;
  if (options.fabric == nullptr) device.data = options.data;  // else there is no wire
  device.secret = secret.bytes();
  device.incarnation = parts->incarnation;
  device.fabric = options.fabric;
  PENSTOCK_ASSIGN_OR_RETURN(parts->device, open_device(device, parts->clock));
  return parts;
}

void run_control(NodeParts& parts, Loop& loop, const char* name) {
  LoopThreadOptions thread;
  thread.name = name;
  parts.control = std::make_unique<LoopThread>(loop, parts.clock, std::move(thread));
}

// The role's own loop ends the wait; looking every few milliseconds is enough for an exit.
template <class Role>
Status wait_finished(const Role& role, const NodeParts& parts, TimeNs deadline_ns) {
  while (true) {
    if (std::optional<Status> status = role.finished()) return *status;
    if (parts.clock.now_ns() >= deadline_ns)
      return {Code::kTimeout, "the job is still running at the deadline"};
    ::poll(nullptr, 0, 5);
  }
}

}  // namespace

std::string node_name() {
  char host[256] = "host";
  ::gethostname(host, sizeof host - 1);
  return fmt::format("{}:{}", host, ::getpid());
}

// ---- worker -------------------------------------------------------------------------------------

WorkerNode::WorkerNode() = default;
WorkerNode::~WorkerNode() { stop(); }

void WorkerNode::stop() {
  if (!parts_) return;
  parts_->stop_threads();
  worker_.reset();
  parts_->hub.reset();
}

std::vector<Counter> WorkerNode::counters() const {
  std::vector<Counter> counters = parts_->device->counters();
  counters.push_back({"engine.not_finite", worker_->not_finite()});
  return counters;
}

Result<std::unique_ptr<WorkerNode>> WorkerNode::start(const NodeOptions& options) {
  std::unique_ptr<WorkerNode> node(new WorkerNode());
  PENSTOCK_ASSIGN_OR_RETURN(node->parts_, make_parts(options, "worker", true));
  NodeParts& parts = *node->parts_;
  WorkerOptions role;
  role.scheduler_address = options.scheduler;
  role.name = node_name();
  role.rank = options.rank;
  role.incarnation = parts.incarnation;
  role.detect_ns = options.detect_ns;
  role.call_timeout_ns = options.call_timeout_ns;
  role.messages = options.messages;
  role.notes = options.notes;
  role.kind_of = [](const void* address) {
    return is_gpu_memory(address) ? MemoryKind::kCuda : MemoryKind::kHost;
  };
  node->worker_ = std::make_unique<Worker>(parts.clock, *parts.device, *parts.hub, best_kernels(),
                                           *parts.lanes, role);
  PENSTOCK_RETURN_IF_ERROR(node->worker_->start());
  run_control(parts, *node->worker_, "worker");
  PENSTOCK_RETURN_IF_ERROR(node->worker_->join());
  return node;
}

// ---- server -------------------------------------------------------------------------------------

namespace {

// Null with host memory.
Result<std::unique_ptr<ComputeDevice>> open_gpu(const NodeOptions& options) {
  if (options.server_memory == ServerMemory::kHost || options.compute != nullptr)
    return std::unique_ptr<ComputeDevice>();
  return open_cuda_device(options.gpu);
}

}  // namespace

ServerNode::ServerNode() = default;
ServerNode::~ServerNode() {
  if (parts_) parts_->stop_threads();
}

std::vector<Counter> ServerNode::counters() const {
  std::vector<Counter> counters = parts_->device->counters();
  counters.push_back({"engine.not_finite", server_->not_finite()});
  for (Rank worker = 0; worker < kMaxJobWorkers; ++worker)
    if (const std::uint64_t slices = server_->not_finite_from(worker); slices != 0)
      counters.push_back({fmt::format("engine.not_finite_from_worker_{}", worker), slices});
  return counters;
}

Result<std::unique_ptr<ServerNode>> ServerNode::start(const NodeOptions& options,
                                                      const KernelTable* kernels) {
  std::unique_ptr<ServerNode> node(new ServerNode());
  PENSTOCK_ASSIGN_OR_RETURN(auto gpu, open_gpu(options));
  PENSTOCK_ASSIGN_OR_RETURN(node->parts_, make_parts(options, "server", true));
  NodeParts& parts = *node->parts_;
  parts.gpu = std::move(gpu);
  ServerOptions role;
  role.compute = options.compute != nullptr ? options.compute : parts.gpu.get();
  role.scheduler_address = options.scheduler;
  role.listen_address = options.listen;
  role.name = node_name();
  role.rank = options.rank;
  role.incarnation = parts.incarnation;
  role.detect_ns = options.detect_ns;
  role.join_timeout_ns = options.call_timeout_ns;
  role.messages = options.messages;
  role.notes = options.notes;
  node->server_ =
      std::make_unique<Server>(parts.clock, *parts.device, *parts.hub,
                               kernels != nullptr ? *kernels : best_kernels(), *parts.lanes, role);
  PENSTOCK_RETURN_IF_ERROR(node->server_->start());
  run_control(parts, *node->server_, "server");
  return node;
}

Status ServerNode::wait(TimeNs deadline_ns) {
  return wait_finished(*server_, *parts_, deadline_ns);
}

// ---- scheduler ----------------------------------------------------------------------------------

SchedulerNode::SchedulerNode() = default;
SchedulerNode::~SchedulerNode() {
  if (parts_) parts_->stop_threads();
}

Result<std::unique_ptr<SchedulerNode>> SchedulerNode::start(const NodeOptions& options,
                                                            SchedulerOptions job) {
  std::unique_ptr<SchedulerNode> node(new SchedulerNode());
  PENSTOCK_ASSIGN_OR_RETURN(node->parts_, make_parts(options, "scheduler", false));
  NodeParts& parts = *node->parts_;
  job.listen_address = options.listen;
  job.name = node_name();
  job.detect_ns = options.detect_ns;
  job.join_timeout_ns = options.call_timeout_ns;
  job.notes = options.notes;
  node->scheduler_ = std::make_unique<Scheduler>(parts.clock, *parts.hub, std::move(job));
  PENSTOCK_RETURN_IF_ERROR(node->scheduler_->start());
  run_control(parts, *node->scheduler_, "scheduler");
  return node;
}

Status SchedulerNode::wait(TimeNs deadline_ns) {
  return wait_finished(*scheduler_, *parts_, deadline_ns);
}

}  // namespace penstock
