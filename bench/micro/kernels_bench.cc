// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Google Benchmark of the kernels; with --ratios or --codec-ratios, only the ratios the
// documents quote.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "bench/kernels/ratios.h"
#include "bench/micro/codec_ratios.h"
#include "kernels/initializer.h"
#include "transport/base/check.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kElements = 64U << 20;  // far larger than any cache
constexpr int kRounds = 9;

void count_elements(benchmark::State& state, std::size_t elements, std::size_t bytes_each) {
  const auto total = static_cast<std::int64_t>(elements) * state.iterations();
  state.SetItemsProcessed(total);
  state.SetBytesProcessed(total * static_cast<std::int64_t>(bytes_each));
}

Workload make(const Shape& shape) {
  Result<Workload> workload = Workload::make(shape);
  CHECK(workload.ok(), "{}", workload.status().to_string());
  return std::move(workload).value();
}

// The fused update of one rule from DRAM; bytes are those read.
void run_fused(benchmark::State& state, OptimizerKind kind, std::uint32_t workers, DType dtype) {
  const Shape shape{default_optimizer(kind), workers, dtype, kElements / (workers > 8 ? 8 : 1)};
  Workload workload = make(shape);
  for (auto _ : state) workload.fused(best_kernels(), {0, shape.elements}, true);
  count_elements(state, shape.elements, read_bytes(shape));
}

// One slice after another as a server sees them: gradients just copied in by a socket, parameters
// and state from DRAM, the wire copied out at once. Receiving is not timed; streaming the wire
// around the caches has to pay for its way back.
void run_slices(benchmark::State& state, bool stream_wire) {
  constexpr std::size_t kSlice = 128U << 10;  // elements: 256 KiB of bf16
  Shape shape;
  shape.workers = 2;
  shape.elements = kElements;
  Workload workload = make(shape);
  Range range{0, kSlice};
  for (auto _ : state) {
    workload.receive(range);
    const double start = thread_seconds();
    workload.fused(best_kernels(), range, stream_wire);
    workload.send(range);
    state.SetIterationTime(thread_seconds() - start);
    range.first = (range.first + kSlice) % kElements;
  }
  count_elements(state, kSlice, read_bytes(shape));
}

void run_encode(benchmark::State& state, DType dtype) {
  const std::vector<float> values(1U << 16, 1.25F);
  std::vector<float> wire(values.size());
  for (auto _ : state) {
    best_kernels().encode(values.data(), wire.data(), dtype, values.size());
    benchmark::ClobberMemory();
  }
  count_elements(state, values.size(), sizeof(float));
}

void run_initialize(benchmark::State& state, InitializerSpec::Kind kind) {
  std::vector<float> values(1U << 16);
  for (auto _ : state) {
    initialize({kind, 0, 1, 1}, 1, 0, values);
    benchmark::ClobberMemory();
  }
  count_elements(state, values.size(), sizeof(float));
}

void print_line(const char* name, const Quartiles& q, const char* unit = "") {
  fmt::print("  {:<34} {:8.3f} {:<5} (quartiles {:.3f} … {:.3f})\n", name, q.median, unit, q.low,
             q.high);
}

void print_ratios(const Shape& shape) {
  Workload workload = make(shape);
  const Ratios ratios = measure(workload, best_kernels(), kRounds);
  fmt::print("adamw, {} {} gradients, {} Mi parameters, 1 thread, {}, {} rounds\n", shape.workers,
             dtype_name(shape.dtype), shape.elements >> 20, best_kernels().target, kRounds);
  print_line("read only", ratios.read_GBps, "GB/s");
  print_line("fused / read bandwidth", ratios.share_of_read_bandwidth);
  if (ratios.share_cached) print_line("the same, wire not streamed", *ratios.share_cached);
  print_line("fused / separate passes", ratios.fused_over_separate);
  if (ratios.fused_over_cpu_adam)
    print_line("fused / loop shape of CPUAdam", *ratios.fused_over_cpu_adam);
}

void register_all() {
  using benchmark::RegisterBenchmark;
  for (std::uint32_t kind = 0; kind < kOptimizerKinds; ++kind)
    for (std::uint32_t workers : {1U, 8U, 64U})
      for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBfloat16}) {
        const auto rule = static_cast<OptimizerKind>(kind);
        if (is_by_norms(rule)) continue;
        const std::string name =
            fmt::format("fused/{}/W={}/{}", optimizer_name(rule), workers, dtype_name(dtype));
        RegisterBenchmark(name.c_str(), run_fused, rule, workers, dtype)
            ->Unit(benchmark::kMillisecond);
      }
  RegisterBenchmark("slice_then_send/wire_cached", run_slices, false)->UseManualTime();
  RegisterBenchmark("slice_then_send/wire_streamed", run_slices, true)->UseManualTime();
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBfloat16})
    RegisterBenchmark(fmt::format("encode/{}", dtype_name(dtype)).c_str(), run_encode, dtype);
  RegisterBenchmark("initialize/uniform", run_initialize, InitializerSpec::kUniform);
  RegisterBenchmark("initialize/normal", run_initialize, InitializerSpec::kNormal);
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--ratios") == 0) {
    using namespace penstock;
    for (const DType dtype : {DType::kBfloat16, DType::kFloat32})
      for (const std::uint32_t workers : {8U, 1U})
        bench::print_ratios({.workers = workers, .dtype = dtype, .elements = bench::kElements});
    return 0;
  }
  if (argc == 2 && std::strcmp(argv[1], "--codec-ratios") == 0) {
    penstock::bench::print_codec_ratios(penstock::bench::kElements / 4, penstock::bench::kRounds);
    return 0;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  penstock::bench::register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
