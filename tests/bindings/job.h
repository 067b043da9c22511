// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A whole job in this process: nodes with their real threads, over loopback or tcp with TLS
// control.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "bindings/cpp/node.h"

namespace penstock::test {

struct JobOptions {
  std::string transport = "tcp";
  std::uint32_t workers = 1;
  std::uint32_t servers = 1;
  std::uint32_t lanes = 1;
  std::uint64_t slice_bytes = 16 << 10;
  TimeNs detect_ns = 3 * kSecond;
  TimeNs call_timeout_ns = 20 * kSecond;
  std::vector<MessageReceiver*> server_messages = {};  // by rank; empty: none
  std::vector<MessageReceiver*> worker_messages = {};
  std::function<NoteReceiver*(Role, Rank)> notes = {};
  ComputeDevice* compute = nullptr;  // of the servers
};

class Job {
 public:
  explicit Job(const JobOptions& given) : options_(given), fabric_(clock_) {
    NodeOptions node = node_options();
    if (options_.notes) node.notes = options_.notes(Role::kScheduler, 0);
    SchedulerOptions job;
    job.workers = given.workers;
    job.servers = given.servers;
    job.lanes = given.lanes;
    job.slice_bytes = given.slice_bytes;
    auto started = SchedulerNode::start(node, job);
    EXPECT_TRUE(started.ok()) << started.status().to_string();
    scheduler = std::move(*started);
    for (Rank rank = 0; rank < given.servers; ++rank) {
      NodeOptions options = node_options(rank);
      if (options_.notes) options.notes = options_.notes(Role::kServer, rank);
      if (!options_.server_messages.empty()) options.messages = options_.server_messages[rank];
      auto server = ServerNode::start(options);
      EXPECT_TRUE(server.ok()) << server.status().to_string();
      servers.push_back(std::move(*server));
    }
    workers.resize(given.workers);
    each_worker([this](Rank rank) {
      NodeOptions options = node_options(rank);
      if (options_.notes) options.notes = options_.notes(Role::kWorker, rank);
      if (!options_.worker_messages.empty()) options.messages = options_.worker_messages[rank];
      auto worker = WorkerNode::start(options);
      EXPECT_TRUE(worker.ok()) << worker.status().to_string();
      if (worker.ok()) workers[rank] = std::move(*worker);
    });
  }

  NodeOptions node_options(Rank rank = kAnyRank) {
    NodeOptions node;
    if (scheduler) node.scheduler = scheduler->address();
    node.transport = options_.transport;
    node.rank = rank;
    node.secret = &secret_;
    node.detect_ns = options_.detect_ns;
    node.call_timeout_ns = options_.call_timeout_ns;
    node.threads.pin = false;
    node.compute = options_.compute;
    if (options_.transport == "loopback") node.fabric = &fabric_;
    return node;
  }

  // Runs `body(rank)` on a thread per worker and joins them.
  template <class Body>
  void each_worker(Body body) {
    std::vector<std::thread> threads;
    for (Rank rank = 0; rank < options_.workers; ++rank)
      threads.emplace_back([&body, rank] { body(rank); });
    for (std::thread& thread : threads) thread.join();
  }

  TimeNs deadline_ns(TimeNs from_now_ns = 20 * kSecond) const {
    return clock_.now_ns() + from_now_ns;
  }

 private:
  const JobOptions options_;
  SystemClock clock_;
  LoopbackFabric fabric_;
  Secret secret_ = Secret::random();

 public:  // nodes go before the fabric
  std::unique_ptr<SchedulerNode> scheduler;
  std::vector<std::unique_ptr<ServerNode>> servers;
  std::vector<std::unique_ptr<WorkerNode>> workers;
};

}  // namespace penstock::test
