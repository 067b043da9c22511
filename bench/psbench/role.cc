// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/role.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "bench/psbench/exchange.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/report.h"
#include "bench/psbench/sizes.h"
#include "bench/psbench/train/training.h"
#include "bindings/cpp/node.h"

namespace penstock::psbench {
namespace {

Result<NodeOptions> node_options(const RoleOptions& options) {
  const LocalOptions& local = options.push_pull.local;
  NodeOptions node;
  node.scheduler = options.scheduler;
  node.listen = options.listen;
  node.transport = local.transport;
  node.data = local.data;
  node.server_memory = server_memory_of(local);
  node.rails = options.rails;
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

Result<Model> choose_model(const PushPullOptions& options, DType dtype) {
  if (options.sizes.empty()) return load_model(options.model);
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> sizes, parse_sizes(options.sizes));
  if (sizes.size() != 1)
    return Status(Code::kInvalidArgument, "--sizes: one size per job that is started by hand");
  return single_tensor_model(sizes[0], dtype_bytes(dtype));
}

// The rounds are fixed, so no worker has to tell the others when to stop.
Result<ExchangeOptions> exchange_options(const PushPullOptions& options) {
  ExchangeOptions exchange;
  PENSTOCK_ASSIGN_OR_RETURN(exchange.tensors, make_tensors(options));
  exchange.rounds = std::max<std::uint64_t>(1, options.rounds);
  exchange.warm_up = options.warm_up;
  exchange.check = options.check;
  exchange.alone = true;
  if (options.audit) PENSTOCK_RETURN_IF_ERROR(set_audit(exchange));
  return exchange;
}

Status run_exchange(const PushPullOptions& options, const NodeOptions& node) {
  PENSTOCK_ASSIGN_OR_RETURN(const ExchangeOptions exchange, exchange_options(options));
  const DType dtype = exchange.tensors.dtype;
  PENSTOCK_ASSIGN_OR_RETURN(const Model model, choose_model(options, dtype));
  SharedPage page;
  const std::unique_ptr<WorkerProgram> program = make_exchange(model, exchange, page);
  PENSTOCK_ASSIGN_OR_RETURN(const auto worker, WorkerNode::start(node));
  const Rank rank = worker->worker().rank();
  RunResult result;
  result.model = model.name;
  result.transport = node.transport;
  result.optimizer = options.local.optimizer;
  result.dtype = options.dtype;
  result.elements = model.elements();
  result.bytes = result.elements * dtype_bytes(dtype);
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

Status run_training(const RoleOptions& options, const NodeOptions& node) {
  PENSTOCK_ASSIGN_OR_RETURN(const OptimizerSpec optimizer, make_optimizer(options.push_pull.local));
  PENSTOCK_ASSIGN_OR_RETURN(const Dataset data, load_data(options.train));
  SharedPage page;
  const std::unique_ptr<WorkerProgram> program =
      make_training(options.train, optimizer, data, page);
  PENSTOCK_ASSIGN_OR_RETURN(const auto worker, WorkerNode::start(node));
  return program->run(worker->worker()).status;
}

Status run(const RoleOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const NodeOptions node, node_options(options));
  if (options.role == "scheduler") return run_scheduler(options, node);
  if (options.role == "server") return run_server(node);
  return options.train.data.empty() ? run_exchange(options.push_pull, node)
                                    : run_training(options, node);
}

}  // namespace

CLI::App* add_role_command(CLI::App& app, RoleOptions& options) {
  options.push_pull.rounds = 20;
  CLI::App* command = app.add_subcommand("role", "one process of a job on any hosts");
  command->add_option("role", options.role, "scheduler, server or worker")
      ->required()
      ->check(CLI::IsMember({"scheduler", "server", "worker"}));
  command->add_option("--scheduler", options.scheduler, "host:port of the scheduler");
  command
      ->add_option("--listen", options.listen,
                   "where others connect; the data goes by this address")
      ->capture_default_str();
  command->add_option("--rails", options.rails, "verbs: the devices to use, as mlx5_0 or mlx5_0:1")
      ->delimiter(',');
  command->add_option("--rank", options.rank, "-1 takes any")->capture_default_str();
  command->add_option("--servers", options.servers, "of the job (scheduler)")
      ->capture_default_str();
  command->add_option("--workers", options.workers, "of the job (scheduler)")
      ->capture_default_str();
  command->add_flag("--insecure", options.insecure,
                    "no secret: neither authenticated nor encrypted");
  add_push_pull_options(*command, options.push_pull);
  add_training_options(*command, options.train);
  command->get_option("--data")->description("worker: train on this CSV file instead of a model");
  return command;
}

int run_role(const RoleOptions& options) {
  const Status status = run(options);
  if (status.ok()) return kExitGood;
  fmt::print(stderr, "psbench {}: {}\n", options.role, status.to_string());
  return status.code() == Code::kMismatch ? kExitWrongData : exit_code_of(status.code());
}

}  // namespace penstock::psbench
