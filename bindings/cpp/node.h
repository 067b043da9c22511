// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Nodes: what a program creates to take part in a job. Each owns its clock, device, control hub,
// threads and role, in the right order. Everything below is plain constructor arguments; these
// three only put it together.
//
//   auto node = WorkerNode::start({.scheduler = "10.0.0.1:7070", .secret_file = "job.secret"});
//   Worker& worker = (*node)->worker();

#include <memory>
#include <string>
#include <vector>

#include "bindings/cpp/lane_threads.h"
#include "engine/scheduler/scheduler.h"
#include "engine/server/server.h"
#include "engine/worker/worker.h"
#include "transport/control/secret.h"
#include "transport/providers.h"

namespace penstock {

// Where a server keeps parameters, state and slots, and updates them.
enum class ServerMemory : std::uint8_t {
  kHost,  // this processor
  kCuda,  // an NVIDIA GPU, through libpenstock_cuda.so
};

struct NodeOptions {
  std::string scheduler;               // "host:port" of the scheduler; not for the scheduler
  std::string listen = "127.0.0.1:0";  // scheduler, server: control connections come in here
  std::string transport = "auto";      // of data; see provider_names()
  std::string advertise_host;          // what peers connect data to; empty: the host of `listen`
  std::vector<std::string> rails;      // verbs: "mlx5_0", "mlx5_0:1"; empty: all active ports
  DataOptions data;                    // encrypted or not
  Rank rank = kAnyRank;
  std::string secret_file;           // empty: PENSTOCK_SECRET_FILE
  const Secret* secret = nullptr;    // in memory already: goes before secret_file
  bool insecure = false;             // no secret: neither authenticated nor encrypted
  LoopbackFabric* fabric = nullptr;  // nodes of one process: also carries control
  ThreadOptions threads;
  MessageReceiver* messages = nullptr;  // worker, server: of open messages; outlives the node
  NoteReceiver* notes = nullptr;        // of notes; outlives the node
  ServerMemory server_memory = ServerMemory::kHost;
  int gpu = 0;                       // of kCuda, as CUDA counts
  ComputeDevice* compute = nullptr;  // server: another device that computes, instead of both
  TimeNs detect_ns = kDefaultDetectNs;
  TimeNs call_timeout_ns = kDefaultCallTimeoutNs;
};

namespace internal {
struct NodeParts;
}

// Thread: the node functions from one thread; worker() and what it returns as Worker says.
class WorkerNode {
 public:
  // Opens the device, connects to the scheduler and waits until the job is complete.
  static Result<std::unique_ptr<WorkerNode>> start(const NodeOptions& options);
  ~WorkerNode();  // without leave() before, the others take this for a death
  Worker& worker() { return *worker_; }
  // Ends threads and connections, once, and with them worker(). Memory that came from its
  // allocate() stays valid as long as the node.
  void stop();
  // Of its data, by rail: Device::counters(); "engine.not_finite": Worker::not_finite().
  std::vector<Counter> counters() const;

 private:
  WorkerNode();
  std::unique_ptr<internal::NodeParts> parts_;
  std::unique_ptr<Worker> worker_;
};

class ServerNode {
 public:
  // Returns once it is connecting; `kernels` nullptr takes the best for this processor.
  static Result<std::unique_ptr<ServerNode>> start(const NodeOptions& options,
                                                   const KernelTable* kernels = nullptr);
  ~ServerNode();
  Server& server() { return *server_; }
  // As the worker's, and "engine.not_finite_from_worker_3" for each whose gradients were not.
  std::vector<Counter> counters() const;
  // Until the job is over or the deadline (on SystemClock) has passed (kTimeout).
  Status wait(TimeNs deadline_ns);

 private:
  ServerNode();
  std::unique_ptr<internal::NodeParts> parts_;
  std::unique_ptr<Server> server_;
};

class SchedulerNode {
 public:
  // job: how many workers, servers, lanes; its addresses and times come from `options`.
  static Result<std::unique_ptr<SchedulerNode>> start(const NodeOptions& options,
                                                      SchedulerOptions job);
  ~SchedulerNode();
  Scheduler& scheduler() { return *scheduler_; }
  const std::string& address() const { return scheduler_->address(); }
  Status wait(TimeNs deadline_ns);

 private:
  SchedulerNode();
  std::unique_ptr<internal::NodeParts> parts_;
  std::unique_ptr<Scheduler> scheduler_;
};

// "host:pid" of this process.
std::string node_name();

}  // namespace penstock
