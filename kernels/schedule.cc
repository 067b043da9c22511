// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numbers>

#include "transport/base/check.h"

namespace penstock {
namespace {

constexpr std::string_view kNames[kScheduleKinds] = {
    "constant", "step", "exponential", "inverse_time", "polynomial", "cosine", "noam", "piecewise"};

template <class Value>
Status refuse(std::string_view field, Value value, std::string_view rule) {
  return {Code::kInvalidArgument,
          fmt::format("schedule {} is {}, but must be {}", field, value, rule)};
}

bool is_rate(double value) { return value >= 0 && value <= FLT_MAX; }

// factorⁿ by squaring: multiplication is the same everywhere.
double power_of(double factor, std::uint64_t n) {
  double power = 1;
  for (double square = factor; n > 0; n >>= 1, square *= square)
    if (n & 1) power *= square;
  return power;
}

double piecewise(const Schedule& s, double rate, std::uint64_t u) {
  double multiplier = 1;
  for (std::uint32_t i = 0; i < s.boundary_count && u >= s.boundaries[i]; ++i)
    multiplier = s.multipliers[i];
  return rate * multiplier;
}

Status validate_piecewise(const Schedule& s) {
  if (s.boundary_count > kMaxBoundaries)
    return refuse("boundary_count", s.boundary_count, fmt::format("at most {}", kMaxBoundaries));
  for (std::uint32_t i = 0; i < s.boundary_count; ++i) {
    if (!is_rate(s.multipliers[i]))
      return refuse("multiplier", s.multipliers[i], "a float32 of at least 0");
    if (i > 0 && s.boundaries[i] <= s.boundaries[i - 1])
      return refuse("boundary", s.boundaries[i], fmt::format("above {}", s.boundaries[i - 1]));
  }
  if (s.kind == ScheduleKind::kPiecewise && s.boundary_count == 0)
    return refuse("boundary_count", 0, "at least 1 for piecewise");
  return {};
}

}  // namespace

Status validate(const Schedule& s) {
  const auto kind = static_cast<unsigned>(s.kind);
  if (kind >= kScheduleKinds) return refuse("kind", kind, fmt::format("below {}", kScheduleKinds));
  if (s.period == 0) return refuse("period", s.period, "at least 1");
  const bool noam = s.kind == ScheduleKind::kNoam;
  if (!is_rate(s.factor) || (noam && s.factor == 0))
    return refuse("factor", s.factor, noam ? "the model's width" : "a float32 of at least 0");
  if (!is_rate(s.power)) return refuse("power", s.power, "a float32 of at least 0");
  if (!is_rate(s.final)) return refuse("final", s.final, "a float32 of at least 0");
  if (!is_rate(s.warmup_start))
    return refuse("warmup_start", s.warmup_start, "a float32 of at least 0");
  if (noam && s.warmup != 0) return refuse("warmup", s.warmup, "0 for noam, whose period is one");
  return validate_piecewise(s);
}

double learning_rate_at(const Schedule& s, double rate, std::uint64_t step) {
  CHECK(step > 0, "steps count from 1");
  const std::uint64_t before = step - 1;
  if (before < s.warmup)
    return s.warmup_start +
           (rate - s.warmup_start) * static_cast<double>(before) / static_cast<double>(s.warmup);
  const std::uint64_t u = before - s.warmup;
  const auto period = static_cast<double>(s.period);
  const double periods = static_cast<double>(u) / period;
  const double done = std::min(periods, 1.0);
  switch (s.kind) {
    case ScheduleKind::kConstant:
      return rate;
    case ScheduleKind::kStep:
      return std::max(s.final, rate * power_of(s.factor, u / s.period));
    case ScheduleKind::kExponential:
      return std::max(s.final, rate * std::pow(s.factor, periods));
    case ScheduleKind::kInverseTime:
      return rate / (1 + s.factor * periods);
    case ScheduleKind::kPolynomial:
      return s.final + (rate - s.final) * std::pow(1 - done, s.power);
    case ScheduleKind::kCosine:
      return s.final + (rate - s.final) * (1 + std::cos(std::numbers::pi * done)) / 2;
    case ScheduleKind::kNoam: {
      const auto n = static_cast<double>(u + 1);
      return rate / std::sqrt(s.factor) *
             std::min(1 / std::sqrt(n), n / (period * std::sqrt(period)));
    }
    case ScheduleKind::kPiecewise:
      return piecewise(s, rate, u);
  }
  return rate;
}

std::string_view schedule_name(ScheduleKind kind) {
  const auto index = static_cast<std::uint32_t>(kind);
  return index < kScheduleKinds ? kNames[index] : "?";
}

}  // namespace penstock
