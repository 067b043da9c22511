// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/kernel_lists.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "kernels/optimizer_text.h"

namespace penstock::psbench {
namespace {

constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};

// "" gives one empty part, which nobody knows.
std::vector<std::string> parts_of(std::string_view text) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t comma = text.find(',');
    parts.emplace_back(text.substr(0, comma));
    if (comma == text.npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

Status unknown(std::string_view what, std::string_view part, const std::string& known) {
  return Status(Code::kInvalidArgument, fmt::format("no {} is called '{}'", what, part))
      .with_hint("known: " + known);
}

}  // namespace

Result<std::vector<NamedOptimizer>> parse_optimizers(std::string_view text) {
  std::vector<std::string> names;
  if (text == "all") {
    for (std::uint8_t kind = 0; kind < kOptimizerKinds; ++kind)
      if (!needs_norms(default_optimizer(static_cast<OptimizerKind>(kind))))
        names.emplace_back(optimizer_name(static_cast<OptimizerKind>(kind)));
  } else {
    for (std::string& part : parts_of(text)) {
      const bool number = part.find('=') != part.npos && part.find(':') == part.npos;
      if (number && !names.empty())
        names.back() += "," + part;
      else
        names.push_back(std::move(part));
    }
  }
  std::vector<NamedOptimizer> optimizers;
  for (std::string& name : names) {
    PENSTOCK_ASSIGN_OR_RETURN(const OptimizerSpec spec, parse_optimizer_spec(name));
    if (needs_norms(spec))
      return Status(
                 Code::kUnsupported,
                 fmt::format("optimizer '{}' needs norms of whole tensors: it has no fused update",
                             name))
          .with_hint("measure it in a job: psbench --optimizer " + name);
    optimizers.push_back({std::move(name), spec});
  }
  return optimizers;
}

Result<std::vector<DType>> parse_dtypes(std::string_view text) {
  if (text == "all") return std::vector<DType>(std::begin(kDTypes), std::end(kDTypes));
  std::vector<DType> dtypes;
  for (const std::string& part : parts_of(text)) {
    const std::optional<DType> dtype = parse_dtype(part);
    if (!dtype) {
      std::vector<std::string_view> known;
      for (const DType each : kDTypes) known.push_back(dtype_name(each));
      return unknown("dtype", part, fmt::format("{}; or all", fmt::join(known, ", ")));
    }
    dtypes.push_back(*dtype);
  }
  return dtypes;
}

Result<std::vector<std::uint32_t>> parse_worker_counts(std::string_view text) {
  std::vector<std::uint32_t> counts;
  for (const std::string& part : parts_of(text)) {
    std::uint32_t count = 0;
    const char* const end = part.data() + part.size();
    const auto [stop, error] = std::from_chars(part.data(), end, count);
    if (error != std::errc() || stop != end || count < 1 || count > kMaxWorkers)
      return Status(Code::kInvalidArgument, fmt::format("--workers {}", part))
          .with_hint(fmt::format("numbers from 1 to {}, as 1,8", kMaxWorkers));
    counts.push_back(count);
  }
  return counts;
}

Result<std::vector<const KernelTable*>> parse_targets(std::string_view text) {
  const auto available = available_kernels();
  if (text == "all") return std::vector<const KernelTable*>(available.begin(), available.end());
  std::vector<const KernelTable*> targets;
  for (const std::string& part : parts_of(text)) {
    const KernelTable* const target = part == "best" ? &best_kernels() : find_kernels(part);
    if (target == nullptr) {
      std::vector<std::string_view> known;
      for (const KernelTable* each : available) known.emplace_back(each->target);
      return unknown("target of this CPU", part,
                     fmt::format("{}, best; or all", fmt::join(known, ", ")));
    }
    targets.push_back(target);
  }
  return targets;
}

}  // namespace penstock::psbench
