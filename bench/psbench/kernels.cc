// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/kernels.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <optional>

#include "bench/kernels/ratios.h"
#include "bench/psbench/environment.h"
#include "bench/psbench/exit_code.h"
#include "bench/psbench/json.h"
#include "bench/psbench/kernel_lists.h"
#include "bench/psbench/report.h"
#include "bench/psbench/sizes.h"

namespace penstock::psbench {
namespace {

using Json = nlohmann::ordered_json;

// Field names are stable within it.
constexpr const char* kKernelsJsonSchema = "penstock-psbench-kernels-1";

constexpr const char* kRowFormat =
    "{:<24} {:<5} {:>3} {:<7} | {:>8} {:>6} {:>21} {:>7} | {:>8} {:>8}\n";

void print_header(const KernelsOptions& options) {
  fmt::print(
      "{} parameters a pass, one thread, its CPU time; medians of {} rounds after one that is not "
      "counted\n"
      "share of the read bandwidth measured in the same rounds, with quartiles; cached: the wire "
      "not streamed around the caches\n\n",
      options.elements, options.repeats);
  fmt::print(fmt::runtime(kRowFormat), "", "", "", "", "Mparam", "read", "share of", "", "over",
             "over");
  fmt::print(fmt::runtime(kRowFormat), "optimizer", "dtype", "W", "target", "/s", "GB/s",
             "read bandwidth", "cached", "separate", "CPUAdam");
  std::fflush(stdout);
}

std::string fixed(const std::optional<bench::Quartiles>& value, int digits) {
  return value ? fmt::format("{:.{}f}", value->median, digits) : "-";
}

struct Row {
  const std::string& optimizer;
  const bench::Shape& shape;
  const KernelTable& kernels;
  bench::Ratios ratios;
};

void print_row(const Row& row) {
  const bench::Ratios& r = row.ratios;
  const bench::Quartiles& share = r.share_of_read_bandwidth;
  fmt::print(fmt::runtime(kRowFormat), row.optimizer, dtype_name(row.shape.dtype),
             row.shape.workers, row.kernels.target,
             fmt::format("{:.1f}", r.params_per_s.median * 1e-6), fixed(r.read_GBps, 1),
             fmt::format("{:.3f} ({:.3f} … {:.3f})", share.median, share.low, share.high),
             fixed(r.share_cached, 3), fixed(r.fused_over_separate, 2),
             fixed(r.fused_over_cpu_adam, 3));
  std::fflush(stdout);
}

Json json_of(const Row& row) {
  return {{"optimizer", row.optimizer},
          {"dtype", dtype_name(row.shape.dtype)},
          {"workers", row.shape.workers},
          {"target", row.kernels.target},
          {"params_per_s", row.ratios.params_per_s.median},
          {"share_of_read_bandwidth", row.ratios.share_of_read_bandwidth.median},
          {"fused_over_separate", row.ratios.fused_over_separate.median}};
}

// What the options ask for. Targets share a workload.
struct Plan {
  std::vector<NamedOptimizer> optimizers;
  std::vector<bench::Shape> shapes;  // of the optimizer with the same index
  std::vector<const KernelTable*> targets;
};

// Refuses what this host has no memory for.
Status check_memory(const bench::Shape& shape, const std::string& elements) {
  // A pass reads these; wire and the sum of the separate passes come on top.
  const std::uint64_t each = bench::read_bytes(shape) + bench::wire_bytes(shape) + sizeof(float);
  const std::uint64_t limit = read_environment().memory_bytes / 2;
  if (shape.elements <= limit / each) return {};
  return Status(Code::kInvalidArgument,
                fmt::format("--elements {} of {} bytes each, more than half of this host's memory",
                            elements, each))
      .with_hint(fmt::format("{} at most", format_size(limit / each >> 20 << 20)));
}

Result<Plan> make_plan(const KernelsOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const auto optimizers, parse_optimizers(options.optimizers));
  PENSTOCK_ASSIGN_OR_RETURN(const auto dtypes, parse_dtypes(options.dtypes));
  PENSTOCK_ASSIGN_OR_RETURN(const auto workers, parse_worker_counts(options.workers));
  PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t elements, parse_size(options.elements));
  if (elements % bench::kElementStep != 0)
    return Status(Code::kInvalidArgument, fmt::format("--elements {}", options.elements))
        .with_hint(fmt::format("a multiple of {}", format_size(bench::kElementStep)));
  Plan plan;
  PENSTOCK_ASSIGN_OR_RETURN(plan.targets, parse_targets(options.targets));
  for (const NamedOptimizer& optimizer : optimizers)
    for (const DType dtype : dtypes)
      for (const std::uint32_t count : workers) {
        const bench::Shape shape{optimizer.spec, count, dtype, elements};
        PENSTOCK_RETURN_IF_ERROR(check_memory(shape, options.elements));
        plan.optimizers.push_back(optimizer);
        plan.shapes.push_back(shape);
      }
  return plan;
}

Status measure_all(const KernelsOptions& options) {
  PENSTOCK_ASSIGN_OR_RETURN(const Plan plan, make_plan(options));
  print_header(options);
  Json rows = Json::array();
  for (std::size_t i = 0; i < plan.shapes.size(); ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(bench::Workload workload, bench::Workload::make(plan.shapes[i]));
    for (const KernelTable* kernels : plan.targets) {
      const Row row{plan.optimizers[i].name, plan.shapes[i], *kernels,
                    bench::measure(workload, *kernels, options.repeats)};
      print_row(row);
      rows.push_back(json_of(row));
    }
  }
  if (options.json.empty()) return {};
  return write_file(options.json, report_of(kKernelsJsonSchema, read_environment(), rows));
}

}  // namespace

CLI::App* add_kernels_command(CLI::App& app, KernelsOptions& options) {
  CLI::App* command = app.add_subcommand(
      "kernels", "the fused update alone, against read bandwidth and separate passes");
  command
      ->add_option("--optimizer", options.optimizers,
                   "a list, as adamw,rmsprop:rho=0.9,momentum=0.9,lion; or all")
      ->capture_default_str();
  command
      ->add_option("--dtype", options.dtypes,
                   "of gradients and wire (float32 masters need no wire): fp32, fp16, bf16, all")
      ->capture_default_str();
  command->add_option("--workers", options.workers, "gradients summed, as 1,8")
      ->capture_default_str();
  command->add_option("--target", options.targets, "instruction sets of this CPU; best or all")
      ->capture_default_str();
  command
      ->add_option("--elements", options.elements,
                   "parameters; as many as the last-level cache has bytes, or it takes part")
      ->capture_default_str();
  command->add_option("--repeats", options.repeats, "rounds measured")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--json", options.json, "write the rows to this file");
  return command;
}

int run_kernels(const KernelsOptions& options) {
  const Status status = measure_all(options);
  if (!status.ok()) fmt::print(stderr, "psbench: {}\n", status.to_string());
  return exit_code_of(status.code());
}

}  // namespace penstock::psbench
