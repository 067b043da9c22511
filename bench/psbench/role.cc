// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/role.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/psbench/exchange.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/report.h"
#include "bench/psbench/sizes.h"
#include "bindings/cpp/node.h"

namespace penstock::psbench {
namespace {

Result<NodeOptions> node_options(const RoleOptions& options) {
  const LocalOptions& local = options.push_pull.local;
  NodeOptions node;
  node.scheduler = options.scheduler;
  node.listen = options.listen;
  node.transport = local.transport;
  node.rank = options.rank < 0 ? kAnyRank : static_cast<Rank>(options.rank);
  node.secret_file = local.secret_file;
  node.insecure = options.insecure;
  node.detect_ns = static_cast<TimeNs>(local.detect_ms * static_cast<double>(kMillisecond));
  node.call_timeout_ns = static_cast<TimeNs>(local.timeout_s * static_cast<double>(kSecond));
  if (options.role != "scheduler" && options.scheduler.empty())
    return Status(Code::kInvalidArgument, "--scheduler names no address")
        .with_hint("the scheduler prints its address when it starts");
  return node;
}

Status run_scheduler(const RoleOptions& options, const NodeOptions& node) {
  SchedulerOptions job;
  job.servers = options.servers;
  job.workers = options.workers;
  job.lanes = options.push_pull.local.lanes;
  PENSTOCK_ASSIGN_OR_RETURN(job.slice_bytes, parse_size(options.push_pull.local.slice));
  PENSTOCK_ASSIGN_OR_RETURN(const auto scheduler, SchedulerNode::start(node, job));
  fmt::print("scheduler of {} servers and {} workers listens on {}\n", job.servers, job.workers,
             scheduler->address());
  std::fflush(stdout);
  return scheduler->wait(kNever);
}

Status run_server(const NodeOptions& node) {
  PENSTOCK_ASSIGN_OR_RETURN(const auto server, ServerNode::start(node));
  return server->wait(kNever);
}

// The rounds are fixed, so no worker has to tell the others when to stop.
Status run_worker(const RoleOptions& options, const NodeOptions& node) {
  PENSTOCK_ASSIGN_OR_RETURN(const Model model, load_model(options.push_pull.model));
  const std::optional<DType> dtype = parse_dtype(options.push_pull.dtype);
  if (!dtype) return {Code::kInvalidArgument, "no such dtype: " + options.push_pull.dtype};
  ExchangeOptions exchange;
  PENSTOCK_ASSIGN_OR_RETURN(exchange.tensors.optimizer, make_optimizer(options.push_pull.local));
  exchange.tensors.dtype = *dtype;
  exchange.rounds = std::max<std::uint64_t>(1, options.push_pull.rounds);
  exchange.warm_up = options.push_pull.warm_up;
  exchange.check = options.push_pull.check;
  exchange.alone = true;
  SharedPage page;
  const std::unique_ptr<WorkerProgram> program = make_exchange(model, exchange, page);
  PENSTOCK_ASSIGN_OR_RETURN(const auto worker, WorkerNode::start(node));
  const Rank rank = worker->worker().rank();
  RunResult result;
  result.model = model.name;
  result.transport = node.transport;
  result.optimizer = options.push_pull.local.optimizer;
  result.dtype = options.push_pull.dtype;
  result.elements = model.elements();
  result.bytes = result.elements * dtype_bytes(*dtype);
  result.servers = worker->worker().servers();
  result.workers = worker->worker().workers();
  WorkerReport report = program->run(worker->worker());
  result.round_us = std::move(report.round_us);
  result.wrong = report.wrong;
  if (rank == 0) fmt::print("{}{}", table_header(), table_row(result));
  if (report.wrong > 0)
    return {Code::kMismatch, fmt::format("wrong data: {} elements; the first: {}", report.wrong,
                                         report.first_wrong)};
  return report.status;
}

Status run(const RoleOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const NodeOptions node, node_options(options));
  if (options.role == "scheduler") return run_scheduler(options, node);
  if (options.role == "server") return run_server(node);
  return run_worker(options, node);
}

}  // namespace

CLI::App* add_role_command(CLI::App& app, RoleOptions& options) {
  options.push_pull.rounds = 20;
  CLI::App* command = app.add_subcommand("role", "one process of a job on any hosts");
  command->add_option("role", options.role, "scheduler, server or worker")
      ->required()
      ->check(CLI::IsMember({"scheduler", "server", "worker"}));
  command->add_option("--scheduler", options.scheduler, "host:port of the scheduler");
  command->add_option("--listen", options.listen, "scheduler, server: where others connect")
      ->capture_default_str();
  command->add_option("--rank", options.rank, "-1 takes any")->capture_default_str();
  command->add_option("--servers", options.servers, "of the job (scheduler)")
      ->capture_default_str();
  command->add_option("--workers", options.workers, "of the job (scheduler)")
      ->capture_default_str();
  command->add_flag("--insecure", options.insecure,
                    "no secret: neither authenticated nor encrypted");
  add_push_pull_options(*command, options.push_pull);
  return command;
}

int run_role(const RoleOptions& options) {
  const Status status = run(options);
  if (status.ok()) return kExitGood;
  fmt::print(stderr, "psbench {}: {}\n", options.role, status.to_string());
  return status.code() == Code::kMismatch ? kExitWrongData : exit_code_of(status.code());
}

}  // namespace penstock::psbench
