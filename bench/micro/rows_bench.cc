// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Rows a second through a sparse table, one thread, from DRAM:
//   rows_bench [rows in Mi] [rounds]
// A table of 16 floats a row. In each round other rows are touched, drawn uniformly or by Zipf's
// law (exponent 1), pushed by four workers, merged, and stepped by our kernels and by a plain loop
// that asks for no row ahead, compiled for the oldest CPU the build supports; they take turns on
// halves of the rows. Prints medians and quartiles of rows a second and of the ratio. At the end a
// step of all rows against the dense kernels.

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "kernels/row_optimizer.h"
#include "kernels/rows.h"
#include "kernels/table.h"
#include "transport/base/check.h"
#include "transport/base/random.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kWidth = 16;
constexpr std::uint32_t kWorkers = 4;
constexpr std::size_t kPushed = 256U << 10;  // rows a worker pushes

// CPU time of this thread: other processes' time slices do not count.
double thread_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Zeroed floats, on huge pages where the system grants them.
class Memory {
 public:
  explicit Memory(std::size_t floats) {
    constexpr std::size_t kHugePage = 2U << 20;
    const std::size_t bytes = (floats * sizeof(float) + kHugePage - 1) / kHugePage * kHugePage;
    floats_.reset(static_cast<float*>(std::aligned_alloc(kHugePage, bytes)));
    CHECK(floats_ != nullptr, "{} bytes of memory", bytes);
    ::madvise(floats_.get(), bytes, MADV_HUGEPAGE);  // a wish: small pages do too
    std::fill_n(floats_.get(), floats, 0.0F);
  }
  float* get() const { return floats_.get(); }

 private:
  struct Free {
    void operator()(float* floats) const { std::free(floats); }
  };
  std::unique_ptr<float, Free> floats_;
};

enum class Draw { kUniform, kZipf };

std::uint64_t draw_row(Draw draw, SeededRandom& random, std::uint64_t rows) {
  if (draw == Draw::kUniform) return random.below(rows);
  const double u = static_cast<double>(random.next() >> 11) * 0x1p-53;
  const auto rank = static_cast<std::uint64_t>(std::pow(static_cast<double>(rows), u)) - 1;
  return SeededRandom::mix(rank) % rows;  // popular rows lie anywhere
}

// What the workers pushed in one round and what it merges to.
struct Round {
  std::vector<std::uint64_t> ids;
  std::vector<float> values = std::vector<float>(kWorkers * kPushed * kWidth, 0.01F);
  std::vector<std::uint64_t> scratch = std::vector<std::uint64_t>(2 * kWorkers * kPushed);
  std::vector<std::uint32_t> rows = std::vector<std::uint32_t>(kWorkers * kPushed);
  std::vector<float> sums = std::vector<float>(kWorkers * kPushed * kWidth);
  std::size_t merged = 0;

  void draw(Draw law, SeededRandom& random, std::uint64_t table_rows) {
    ids.resize(kWorkers * kPushed);
    for (std::uint64_t& id : ids) id = draw_row(law, random, table_rows);
  }

  void merge(std::uint64_t table_rows) {
    RowContribution workers[kWorkers];
    for (std::uint32_t w = 0; w < kWorkers; ++w)
      workers[w] = {ids.data() + w * kPushed, values.data() + w * kPushed * kWidth, kPushed};
    RowMergeArgs args;
    args.workers = workers;
    args.worker_count = kWorkers;
    args.width = kWidth;
    args.rows = table_rows;
    args.scratch = scratch.data();
    args.merged_rows = rows.data();
    args.sums = sums.data();
    args.capacity = ids.size();
    merged = best_row_kernels().merge(args).count;
  }
};

// The formula of row-wise adagrad as one writes it down.
void plain_adagrad(const RowCoefficients& c, const RowUpdateArgs& args) {
  const RowTable& table = args.table;
  for (std::size_t k = 0; k < args.count; ++k) {
    const float* g = args.gradients + k * table.width;
    float* p = table.parameters.data + args.rows[k] * table.parameters.stride;
    float* h = table.state[0].data + args.rows[k] * table.state[0].stride;
    float sum = 0;
    for (std::size_t i = 0; i < table.width; ++i) sum += g[i] * g[i];
    *h += sum / static_cast<float>(table.width);
    const float gain = c.elements.step_gain / (std::sqrt(*h) + c.elements.epsilon);
    for (std::size_t i = 0; i < table.width; ++i) p[i] += gain * g[i];
  }
}

void plain_adam(const RowCoefficients& c, const RowUpdateArgs& args) {
  const RowTable& table = args.table;
  const Coefficients& e = c.elements;
  for (std::size_t k = 0; k < args.count; ++k) {
    const float* g = args.gradients + k * table.width;
    float* p = table.parameters.data + args.rows[k] * table.parameters.stride;
    float* m = table.state[0].data + args.rows[k] * table.state[0].stride;
    float* v = table.state[1].data + args.rows[k] * table.state[1].stride;
    for (std::size_t i = 0; i < table.width; ++i) {
      m[i] = e.beta1 * m[i] + e.one_minus_beta1 * g[i];
      v[i] = e.beta2 * v[i] + e.one_minus_beta2 * g[i] * g[i];
      p[i] += e.step_gain * m[i] / (e.root_gain * std::sqrt(v[i]) + e.epsilon);
    }
  }
}

struct Optimizer {
  const char* name;
  RowOptimizerSpec spec;
  void (*plain)(const RowCoefficients&, const RowUpdateArgs&);
};

void print_quartiles(const std::string& name, std::vector<double> values, const char* unit) {
  std::sort(values.begin(), values.end());
  const std::size_t last = values.size() - 1;
  fmt::print("{:<44} {:8.2f} {:<8} (quartiles {:.2f} … {:.2f})\n", name, values[last / 2], unit,
             values[last / 4], values[last - last / 4]);
}

// Parameters, then each state plane, one after the other.
RowTable make_table(const Memory& memory, std::uint64_t rows, RowPlanes planes) {
  RowTable table;
  table.rows = rows;
  table.width = kWidth;
  table.parameters = {memory.get(), kWidth};
  float* next = memory.get() + rows * kWidth;
  for (std::uint32_t s = 0; s < planes.elements + planes.scalars; ++s) {
    const std::size_t stride = s < planes.elements ? kWidth : 1;
    table.state[s] = {next, stride};
    next += rows * stride;
  }
  return table;
}

void measure(const Optimizer& optimizer, Draw law, std::uint64_t rows, int rounds) {
  const RowPlanes planes = row_planes(optimizer.spec);
  const Memory memory(rows * (kWidth * (1 + planes.elements) + planes.scalars));
  RowUpdateArgs args;
  args.table = make_table(memory, rows, planes);
  SeededRandom random(1);
  Round round;
  std::vector<double> merged, ours, plain, ratio;
  for (int i = 0; i <= rounds; ++i) {  // the first warms up
    round.draw(law, random, rows);
    const double start = thread_seconds();
    round.merge(rows);
    const double merge_time = thread_seconds() - start;
    const RowCoefficients c = fold_rows(optimizer.spec, static_cast<std::uint64_t>(i) + 1);
    double times[2] = {};
    const std::size_t half = round.merged / 2;
    for (std::size_t turn = 0; turn < 2; ++turn) {
      const std::size_t way = (turn + static_cast<std::size_t>(i)) % 2;
      args.rows = round.rows.data() + turn * half;
      args.gradients = round.sums.data() + turn * half * kWidth;
      args.count = half;
      const double begin = thread_seconds();
      if (way == 0)
        best_row_kernels().update(c, args);
      else
        optimizer.plain(c, args);
      times[way] = thread_seconds() - begin;
    }
    if (i == 0) continue;
    const auto rate = [](std::size_t count, double time) {
      return 1e-6 * static_cast<double>(count) / time;
    };
    merged.push_back(rate(round.ids.size(), merge_time));
    ours.push_back(rate(half, times[0]));
    plain.push_back(rate(half, times[1]));
    ratio.push_back(times[1] / times[0]);
  }
  const std::string title =
      fmt::format("{} {}", optimizer.name, law == Draw::kUniform ? "uniform" : "zipf");
  print_quartiles(title + ", merged", merged, "M rows/s");
  print_quartiles(title + ", stepped", ours, "M rows/s");
  print_quartiles(title + ", plain loop", plain, "M rows/s");
  print_quartiles(title + ", stepped / plain", ratio, "");
}

// Every row stepped, those without a gradient by 0, against the dense kernels on the same arrays
// with no gradient at all, which they need not read.
void measure_all(const RowOptimizerSpec& spec, std::uint64_t rows, int rounds) {
  const Memory memory(rows * kWidth * (1 + row_planes(spec).elements));
  Round round;
  SeededRandom random(2);
  round.draw(Draw::kUniform, random, rows);
  round.merge(rows);
  RowUpdateArgs args;
  args.table = make_table(memory, rows, row_planes(spec));
  args.rows = round.rows.data();
  args.gradients = round.sums.data();
  args.count = round.merged;
  args.coverage = RowCoverage::kAll;
  const void* nothing = nullptr;
  UpdateArgs dense;
  dense.gradients = &nothing;
  dense.workers = 1;
  dense.parameters = args.table.parameters.data;
  for (std::uint32_t s = 0; s < row_planes(spec).elements; ++s)
    dense.state[s] = args.table.state[s].data;
  dense.count = rows * kWidth;
  std::vector<double> ratio;
  for (int i = 0; i <= rounds; ++i) {
    const RowCoefficients c = fold_rows(spec, static_cast<std::uint64_t>(i) + 1);
    const double start = thread_seconds();
    best_row_kernels().update(c, args);
    const double between = thread_seconds();
    best_kernels().update(c.elements, dense);
    if (i > 0) ratio.push_back((thread_seconds() - between) / (between - start));
  }
  print_quartiles("adam, all rows, dense kernels' time / ours", ratio, "");
}

void run(std::uint64_t rows, int rounds) {
  RowOptimizerSpec adagrad;
  adagrad.rule = RowRule::kRowAdaGrad;
  adagrad.elements = default_optimizer(OptimizerKind::kAdaGrad);
  RowOptimizerSpec adam;
  adam.elements = default_optimizer(OptimizerKind::kAdam);
  fmt::print("{} Mi rows of {} floats, {} workers push {} Ki rows each, 1 thread, {}, {} rounds\n",
             rows >> 20, kWidth, kWorkers, kPushed >> 10, best_row_kernels().target, rounds);
  for (const Optimizer& optimizer :
       {Optimizer{"row-wise adagrad", adagrad, plain_adagrad}, Optimizer{"adam", adam, plain_adam}})
    for (Draw law : {Draw::kUniform, Draw::kZipf}) measure(optimizer, law, rows, rounds);
  measure_all(adam, rows, rounds);
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  const int mebirows = argc > 1 ? std::atoi(argv[1]) : 16;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 15;
  if (mebirows < 1 || mebirows > 4096 || rounds < 1) {
    fmt::print(stderr, "rows_bench [rows in Mi, 1 to 4096] [rounds, at least 1]\n");
    return 2;
  }
  penstock::bench::run(static_cast<std::uint64_t>(mebirows) << 20, rounds);
  return 0;
}
