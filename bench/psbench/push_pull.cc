// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/push_pull.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/psbench/ceiling_memory.h"
#include "bench/psbench/ceiling_tcp.h"
#include "bench/psbench/exchange.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/progress.h"
#include "bench/psbench/report.h"
#include "bench/psbench/sizes.h"
#include "kernels/codec/codec_text.h"

namespace penstock::psbench {
namespace {

constexpr std::uint64_t kServerSlackBytes = std::uint64_t{64} << 20;

// Everything a run needs, checked before anything starts.
struct Plan {
  LocalJob job;
  ExchangeOptions exchange;
  std::vector<Model> models;
};

Result<std::vector<Model>> choose_models(const PushPullOptions& options, DType dtype) {
  std::vector<Model> models;
  if (options.sizes.empty()) {
    PENSTOCK_ASSIGN_OR_RETURN(Model model, load_model(options.model));
    models.push_back(std::move(model));
    return models;
  }
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> sizes, parse_sizes(options.sizes));
  for (const std::uint64_t bytes : sizes)
    models.push_back(single_tensor_model(bytes, dtype_bytes(dtype)));
  return models;
}

// Bytes that one worker pushes of a model in a round.
std::uint64_t pushed_bytes(const Model& model, const TensorSetOptions& tensors,
                           std::uint64_t slice_bytes) {
  std::uint64_t bytes = 0;
  for (const ModelTensor& tensor : model.tensors)
    for (const Slice& slice : cut(tensor.elements, sizeof(float), slice_bytes))
      bytes += encoded_bytes(tensors.codec, slice.count);
  return bytes;
}

Result<Plan> make_plan(const PushPullOptions& options) {
  Plan plan;
  PENSTOCK_ASSIGN_OR_RETURN(plan.job, make_job(options.local));
  ExchangeOptions& exchange = plan.exchange;
  PENSTOCK_ASSIGN_OR_RETURN(exchange.tensors, make_tensors(options));
  PENSTOCK_ASSIGN_OR_RETURN(plan.models, choose_models(options, exchange.tensors.dtype));
  exchange.rounds = options.rounds;
  exchange.seconds = options.seconds;
  exchange.warm_up = options.warm_up;
  exchange.check = options.check;
  if (options.audit) PENSTOCK_RETURN_IF_ERROR(set_audit(exchange));
  return plan;
}

// Processes of one host that share memory: the servers' threads move all the bytes. Each reads the
// gradients where they are, reads and writes parameters and state, and writes the parameters to
// every worker.
Result<double> measure_shm_ceiling(const Plan& plan, std::uint64_t bytes) {
  const LocalJob& job = plan.job;
  PENSTOCK_ASSIGN_OR_RETURN(
      const MemoryCeiling memory,
      measure_memory_ceiling(std::min(job.servers * job.lanes, read_environment().cores_allowed),
                             std::max<std::uint64_t>(bytes, std::uint64_t{256} << 20)));
  const ExchangeOptions& exchange = plan.exchange;
  const double kept_ratio = (4.0 + state_bytes(exchange.tensors.optimizer)) /
                            static_cast<double>(dtype_bytes(exchange.tensors.dtype));
  const double moved = 2.0 * job.workers + 2 * kept_ratio;
  const double loaded = std::max(1.0, 1.0 * job.workers / job.servers);
  return loaded * 2 * memory.copy_GBps / moved;  // a copy moves every byte twice
}

// What the same bytes cost without us, measured in this session.
Result<double> measure_ceiling(const Plan& plan, std::uint64_t bytes) {
  const LocalJob& job = plan.job;
  if (job.transport == "shm" || job.transport == "auto") return measure_shm_ceiling(plan, bytes);
  if (job.transport == "loopback") {
    // A slice is copied to the server and back: half of the copy bandwidth each way.
    PENSTOCK_ASSIGN_OR_RETURN(
        const MemoryCeiling memory,
        measure_memory_ceiling(1, std::max<std::uint64_t>(bytes, std::uint64_t{256} << 20)));
    return memory.copy_GBps / 2;
  }
  TcpCeilingOptions tcp;
  tcp.workers = job.workers;
  tcp.servers = job.servers;
  tcp.streams = job.lanes;
  tcp.bytes_per_round = bytes;
  tcp.rounds = bytes >= (std::uint64_t{64} << 20) ? 5 : 21;
  PENSTOCK_ASSIGN_OR_RETURN(const TcpCeiling ceiling, measure_tcp_ceiling(tcp));
  return ceiling.GBps;
}

const char* ceiling_name(const std::string& transport) {
  if (transport == "loopback") return "half of memory's copy bandwidth";
  if (transport == "shm" || transport == "auto")
    return "what the round's own memory traffic allows at the copy bandwidth measured";
  return "raw TCP streams both ways";
}

const char* phase_name(Phase phase) {
  switch (phase) {
    case Phase::kStarting:
      return "starting";
    case Phase::kDeclaring:
      return "declaring";
    case Phase::kChecking:
      return "checking bits";
    case Phase::kWarmingUp:
      return "warming up";
    case Phase::kMeasuring:
      return "measuring";
    case Phase::kEnding:
      return "ending";
  }
  return "";
}

// A round is as long as the slowest worker's.
std::vector<double> slowest(const ClusterReport& report) {
  std::vector<double> round_us = report.workers[0].round_us;
  for (const WorkerReport& worker : report.workers)
    for (std::size_t i = 0; i < std::min(round_us.size(), worker.round_us.size()); ++i)
      round_us[i] = std::max(round_us[i], worker.round_us[i]);
  return round_us;
}

class PushPull {
 public:
  PushPull(const PushPullOptions& options, const Plan& plan) : options_(options), plan_(plan) {}
  int run();

 private:
  Status run_model(const Model& model);
  RunResult describe_run(const Model& model) const;
  void print_memory(const ClusterReport& report, std::uint64_t bytes) const;
  Status write_files() const;
  int verdict(const Status& status) const;
  bool encodes() const { return plan_.exchange.tensors.codec.kind != CodecKind::kNone; }

  const PushPullOptions& options_;
  const Plan& plan_;
  std::vector<RunResult> results_;
  std::string first_wrong_;
  bool interrupted_ = false;
};

RunResult PushPull::describe_run(const Model& model) const {
  RunResult result;
  result.model = model.name;
  result.transport = plan_.job.transport;
  result.optimizer = optimizer_name(plan_.exchange.tensors.optimizer.kind);
  result.dtype = dtype_name(plan_.exchange.tensors.dtype);
  result.elements = model.elements();
  result.bytes = result.elements * dtype_bytes(plan_.exchange.tensors.dtype);
  result.codec = codec_text(plan_.exchange.tensors.codec);
  result.pushed_bytes =
      encodes() ? pushed_bytes(model, plan_.exchange.tensors, plan_.job.slice_bytes) : result.bytes;
  result.servers = plan_.job.servers;
  result.workers = plan_.job.workers;
  result.lanes = plan_.job.lanes;
  const std::size_t element_bytes =
      encodes() ? sizeof(float) : dtype_bytes(plan_.exchange.tensors.dtype);
  for (const ModelTensor& tensor : model.tensors)
    result.messages_per_round += cut(tensor.elements, element_bytes, plan_.job.slice_bytes).size();
  return result;
}

Status PushPull::run_model(const Model& model) {
  RunResult result = describe_run(model);
  if (options_.ceiling && !encodes()) {
    PENSTOCK_ASSIGN_OR_RETURN(result.ceiling_GBps, measure_ceiling(plan_, result.bytes));
  }
  PENSTOCK_ASSIGN_OR_RETURN(const SharedMemory memory, SharedMemory::create(sizeof(SharedPage)));
  SharedPage& page = *memory.construct<SharedPage>();
  Progress progress;
  const auto show = [&] {
    progress.show(fmt::format("{}: {}, {} rounds", model.name,
                              phase_name(static_cast<Phase>(page.phase.load())),
                              page.rounds_done.load()));
  };
  // Filling and checking take time of their own; rounds have their own deadlines.
  const TimeNs limit_ns = SystemClock().now_ns() + 10 * plan_.job.timeout_ns +
                          static_cast<TimeNs>(options_.seconds * 2e9);
  const auto make_program = [&] { return make_exchange(model, plan_.exchange, page); };
  Result<ClusterReport> report = run_local(plan_.job, page, make_program, show, limit_ns);
  progress.clear();
  interrupted_ = page.interrupted.load();
  if (!report.ok()) return report.status();
  result.round_us = slowest(*report);
  result.cpu_s = page.cpu_s.load();
  for (const WorkerReport& worker : report->workers) {
    result.wrong += worker.wrong;
    if (first_wrong_.empty()) first_wrong_ = worker.first_wrong;
    add(result.worker_counters, result.transport, worker.counters);
  }
  for (const ServerReport& server : report->servers)
    add(result.server_counters, result.transport, server.counters);
  fmt::print("{}", table_row(result));
  if (encodes())
    fmt::print("{:<10} gradients by {}: {} pushed by a worker in a round\n", "", result.codec,
               format_size(result.pushed_bytes));
  results_.push_back(std::move(result));
  PENSTOCK_RETURN_IF_ERROR(first_failure(*report));
  if (!options_.sizes.empty()) return {};
  print_memory(*report, results_.back().bytes);
  fmt::print("{}{}", lines_of(results_.back().worker_counters, "workers' data by"),
             lines_of(results_.back().server_counters, "servers' data by"));
  return {};
}

void PushPull::print_memory(const ClusterReport& report, std::uint64_t bytes) const {
  if (plan_.job.transport == "loopback") return;  // all roles share one process
  for (std::size_t rank = 0; rank < report.servers.size(); ++rank) {
    const ServerReport& server = report.servers[rank];
    // Gradients that are read where the workers have them are resident in the server, too.
    const bool maps = plan_.job.transport == "shm" || plan_.job.transport == "auto";
    const std::uint64_t mapped = maps ? 2 * plan_.job.workers * bytes : 0;
    const bool within = server.resident_bytes <= server.planned_bytes + mapped + kServerSlackBytes;
    fmt::print("server {} memory: {} resident at most{}, {} parameters + state + slots{}\n", rank,
               format_size(server.resident_bytes), maps ? " with workers' buffers it maps" : "",
               format_size(server.planned_bytes), within ? "" : " (over by more than 64M)");
  }
}

Status PushPull::write_files() const {
  Environment environment = read_environment();
  environment.transport =
      describe_transport(plan_.job) + (plan_.job.transport == "tcp" ? " 127.0.0.1" : "");
  if (!options_.json.empty())
    PENSTOCK_RETURN_IF_ERROR(write_file(options_.json, to_json(environment, results_)));
  if (!options_.csv.empty()) PENSTOCK_RETURN_IF_ERROR(write_file(options_.csv, to_csv(results_)));
  return {};
}

int PushPull::verdict(const Status& status) const {
  std::uint64_t wrong = 0;
  double lowest = results_.empty() ? 0 : figures_of(results_[0]).busbw_GBps;
  for (const RunResult& result : results_) {
    wrong += result.wrong;
    lowest = std::min(lowest, figures_of(result).busbw_GBps);
  }
  if (wrong > 0) {
    fmt::print("verdict: WRONG DATA: {} elements; the first: {}\n", wrong, first_wrong_);
    return kExitWrongData;
  }
  if (!status.ok()) {
    fmt::print("verdict: failed: {}\n", status.to_string());
    return exit_code_of(status.code());
  }
  const char* const checked = options_.audit   ? "every round audited, 0 wrong"
                              : options_.check ? "bits checked, 0 wrong"
                                               : "bits not checked";
  const char* const ended = interrupted_ ? "; interrupted, this is what was measured" : "";
  if (lowest < options_.min_busbw) {
    fmt::print("verdict: too slow: {:.2f} GB/s busbw, --min-busbw {} asked for ({}{})\n", lowest,
               options_.min_busbw, checked, ended);
    return kExitBelowTarget;
  }
  fmt::print("verdict: good ({}{})\n", checked, ended);
  return kExitGood;
}

int PushPull::run() {
  fmt::print(
      "{} servers, {} workers, {} lanes each, {}, slices of {}; {} warm-up rounds and the "
      "registration are not counted\n",
      plan_.job.servers, plan_.job.workers, plan_.job.lanes, describe_transport(plan_.job),
      format_size(plan_.job.slice_bytes), plan_.exchange.warm_up);
  fmt::print("GB/s = 10^9 bytes a second, one direction; {}\n\n{}",
             encodes() ? "of pulling, since gradients are encoded; there is no ceiling for that"
                       : fmt::format("the ceiling is {} in this session",
                                     ceiling_name(plan_.job.transport)),
             table_header());
  std::fflush(stdout);
  Status status;
  for (const Model& model : plan_.models) {
    status = run_model(model);
    if (!status.ok() || interrupted_) break;
  }
  if (const Status written = write_files(); !written.ok() && status.ok()) status = written;
  return verdict(status);
}

}  // namespace

Result<TensorSetOptions> make_tensors(const PushPullOptions& options) {
  TensorSetOptions tensors;
  const std::optional<DType> dtype = parse_dtype(options.dtype);
  if (!dtype)
    return Status(Code::kInvalidArgument, fmt::format("no dtype is called '{}'", options.dtype))
        .with_hint(parse_codec(options.dtype)
                       ? "that is a codec of gradients, see --codec; parameters are never encoded: "
                         "fp32, fp16, bf16"
                       : "known: fp32, fp16, bf16; 8 bits and less for gradients: --codec");
  tensors.dtype = *dtype;
  PENSTOCK_ASSIGN_OR_RETURN(tensors.codec, parse_codec_spec(options.codec));
  if (tensors.codec.kind != CodecKind::kNone && options.audit)
    return Status(Code::kInvalidArgument,
                  fmt::format("--audit counts in whole numbers, which --codec {} rounds",
                              options.codec))
        .with_hint("leave --audit out: the first rounds are checked bit by bit");
  PENSTOCK_ASSIGN_OR_RETURN(tensors.optimizer, make_optimizer(options.local));
  return tensors;
}

void add_push_pull_options(CLI::App& app, PushPullOptions& options) {
  add_local_options(app, options.local);
  app.add_option("--model", options.model, "resnet50, vgg16, bert-large, gpt2 or dlrm-mlp")
      ->capture_default_str();
  app.add_option("--sizes", options.sizes, "a sweep instead of a model, as 4K:64M:x4 or 4K,1M");
  app.add_option("--dtype", options.dtype, "of gradients and parameters: fp32, fp16 or bf16")
      ->capture_default_str();
  app.add_option("--codec", options.codec,
                 "of gradients: none, or one as 2bit:threshold=0.5, 1bit, int8:block=256, "
                 "fp8_e4m3, fp8_e5m2, topk:fraction=0.01")
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "measured rounds; 0 goes by --seconds")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "of measured rounds per model or size")
      ->check(CLI::Range(0.01, 86400.0))
      ->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "rounds before, not counted")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  app.add_flag("--check,!--no-check", options.check, "compare the first rounds bit by bit (on)");
  app.add_flag("--audit", options.audit, "check every round against the ledger (sgd only)");
  app.add_flag("--ceiling,!--no-ceiling", options.ceiling, "measure the ceiling (on)");
  app.add_option("--min-busbw", options.min_busbw, "GB/s below which the exit code is 3")
      ->capture_default_str();
  app.add_option("--json", options.json, "write the results to this file");
  app.add_option("--csv", options.csv, "write the results to this file");
}

int run_push_pull(const PushPullOptions& options) {
  const Result<Plan> plan = make_plan(options);
  if (!plan.ok()) {
    fmt::print(stderr, "psbench: {}\n", plan.status().to_string());
    return exit_code_of(plan.status().code());
  }
  return PushPull(options, *plan).run();
}

}  // namespace penstock::psbench
