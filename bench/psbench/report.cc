// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "bench/psbench/sizes.h"

namespace penstock::psbench {
namespace {

constexpr double kBytesPerGB = 1e9;
constexpr double kMicrosecondsPerSecond = 1e6;

constexpr const char* kRowFormat =
    "{:<10} {:>7} {:>11} {:>11} {:<5} {:<9} {:>6} | {:>9} {:>9} {:>9} {:>9} | {:>6} {:>6} {:>6} "
    "{:>5} | {:>7} {:>6} {:>6}\n";

}  // namespace

Figures figures_of(const RunResult& r) {
  Figures f;
  f.round_us = summarize(r.round_us);
  if (f.round_us.count == 0 || f.round_us.p50 <= 0) return f;
  const double seconds = f.round_us.p50 / kMicrosecondsPerSecond;
  const double bytes = static_cast<double>(r.bytes);
  const double loaded = std::max(bytes, bytes * r.workers / std::max(1U, r.servers));
  f.algbw_GBps = bytes / kBytesPerGB / seconds;
  f.busbw_GBps = loaded / kBytesPerGB / seconds;
  f.wire_Gbps = f.busbw_GBps * 8;
  f.messages_per_second = static_cast<double>(r.messages_per_round) / seconds;
  f.efficiency = r.ceiling_GBps > 0 ? f.busbw_GBps / r.ceiling_GBps : 0;
  const double pushed = r.pushed_bytes > 0 ? static_cast<double>(r.pushed_bytes) : bytes;
  const double moved = (bytes + pushed) * r.workers * static_cast<double>(f.round_us.count);
  f.cpu_s_per_GB = moved > 0 ? r.cpu_s / (moved / kBytesPerGB) : 0;
  return f;
}

std::string table_header() {
  return fmt::format(fmt::runtime(kRowFormat), "", "size", "bytes", "count", "", "", "", "min",
                     "p50", "p99", "max", "algbw", "busbw", "ceil.", "eff", "msg/s", "cpu", "") +
         fmt::format(fmt::runtime(kRowFormat), "model", "", "", "", "dtype", "optimizer", "rounds",
                     "us", "us", "us", "us", "GB/s", "GB/s", "GB/s", "%", "", "s/GB", "wrong");
}

std::string table_row(const RunResult& r) {
  const Figures f = figures_of(r);
  const auto fixed = [](double value, int digits) { return fmt::format("{:.{}f}", value, digits); };
  return fmt::format(fmt::runtime(kRowFormat), r.model, format_size(r.bytes), r.bytes, r.elements,
                     r.dtype, r.optimizer, f.round_us.count, fixed(f.round_us.min, 1),
                     fixed(f.round_us.p50, 1), fixed(f.round_us.p99, 1), fixed(f.round_us.max, 1),
                     fixed(f.algbw_GBps, 2), fixed(f.busbw_GBps, 2),
                     r.ceiling_GBps > 0 ? fixed(r.ceiling_GBps, 2) : "-",
                     r.ceiling_GBps > 0 ? fixed(f.efficiency * 100, 1) : "-",
                     fixed(f.messages_per_second, 0), fixed(f.cpu_s_per_GB, 2), r.wrong);
}

std::string to_csv(std::span<const RunResult> results) {
  std::string text =
      "model,bytes,elements,transport,servers,workers,lanes,optimizer,dtype,rounds,min_us,mean_us,"
      "p50_us,p99_us,p999_us,max_us,stdev_us,algbw_GBps,busbw_GBps,wire_Gbps,ceiling_GBps,"
      "efficiency,messages_per_second,cpu_s_per_GB,wrong,codec,pushed_bytes\n";
  for (const RunResult& r : results) {
    const Figures f = figures_of(r);
    const Summary& t = f.round_us;
    text += fmt::format("{},{},{},{},{},{},{},{},{},{},", r.model, r.bytes, r.elements, r.transport,
                        r.servers, r.workers, r.lanes, r.optimizer, r.dtype, t.count);
    text += fmt::format("{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},{:.3f},", t.min, t.mean, t.p50,
                        t.p99, t.p999, t.max, t.deviation);
    text += fmt::format("{:.6f},{:.6f},{:.6f},{:.6f},{:.6f},{:.3f},{:.6f},{},{},{}\n", f.algbw_GBps,
                        f.busbw_GBps, f.wire_Gbps, r.ceiling_GBps, f.efficiency,
                        f.messages_per_second, f.cpu_s_per_GB, r.wrong, r.codec,
                        r.pushed_bytes > 0 ? r.pushed_bytes : r.bytes);
  }
  return text;
}

Status write_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return Status::system(fmt::format("cannot open {} to write", path), errno);
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int error = errno;
  if (std::fclose(file) != 0) return Status::system(fmt::format("cannot write {}", path), errno);
  if (!written) return Status::system(fmt::format("cannot write {}", path), error);
  return {};
}

}  // namespace penstock::psbench
