// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program of somebody else's, built against an installed Penstock: a scheduler, a server and a
// worker in one process; a real job starts each with its role on its own host.

#include <bindings/cpp/node.h>

#include <cstdio>

using namespace penstock;

int main() {
  const Secret secret = Secret::random();  // a real job shares a file: PENSTOCK_SECRET_FILE
  NodeOptions options{.secret = &secret};
  auto scheduler = SchedulerNode::start(options, {.workers = 1, .servers = 1});
  if (!scheduler.ok()) return std::puts(scheduler.status().to_string().c_str()), 1;
  options.scheduler = (*scheduler)->address();
  auto server = ServerNode::start(options);
  auto node = WorkerNode::start(options);
  if (!server.ok() || !node.ok()) return std::puts(node.status().to_string().c_str()), 1;

  std::vector<float> gradients(1000, 0.5F), parameters(1000, 1.0F);
  TensorSpec spec{.name = "weights", .shape = {1000}};
  spec.optimizer = {.kind = OptimizerKind::kSgd, .learning_rate = 0.1};
  Worker& worker = (*node)->worker();
  Status status = worker.declare({{1, spec, std::as_writable_bytes(std::span(gradients)),
                                   std::as_writable_bytes(std::span(parameters))}});
  for (Round round = 1; status.ok() && round <= 10; ++round) {
    status = worker.push_pull(1, round);
    if (status.ok()) status = worker.wait(1, round);
  }
  if (status.ok()) status = worker.leave();
  std::printf("%s; parameter %.2f after 10 rounds\n", status.to_string().c_str(), parameters[0]);
  return status.ok() ? 0 : 1;
}
