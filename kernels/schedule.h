// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The learning rate of each round, worked out by the server.

#include <array>
#include <cstdint>
#include <string_view>

#include "transport/base/status.h"

namespace penstock {

// With lr the optimizer's learning rate, u the updates since the warm-up ended (0 at the first),
// and P the period. The values go on the wire; never renumber.
enum class ScheduleKind : std::uint8_t {
  kConstant = 0,
  kStep = 1,  // lr·factor^⌊u/P⌋, not below final    PyTorch's StepLR, MXNet's FactorScheduler
  kExponential = 2,  // lr·factor^(u/P), not below final    Paddle's exponential_decay
  kInverseTime = 3,  // lr/(1 + factor·u/P)                 Paddle's inverse_time_decay
  kPolynomial = 4,   // final + (lr − final)·(1 − min(u, P)/P)^power        MXNet, Paddle
  kCosine = 5,       // final + (lr − final)·(1 + cos(π·min(u, P)/P))/2     MXNet, PyTorch
  kNoam = 6,  // lr·factor^−½·min(n^−½, n·P^−1½), n = u + 1; factor is the model's width
  kPiecewise = 7,  // lr·multiplier of the interval of u   MXNet's MultiFactor, Paddle's piecewise
};
inline constexpr std::uint32_t kScheduleKinds = 8;
inline constexpr std::uint32_t kMaxBoundaries = 8;

// Plain data; travels with a tensor's declaration. Fields a kind does not use must still be valid.
struct Schedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  std::uint64_t period = 1;  // P, in rounds
  double factor = 0.1;
  double power = 1;
  double final = 0;  // the rate at the end
  // Before all that: `warmup` rounds in which the rate rises in a line from warmup_start to lr.
  std::uint64_t warmup = 0;
  double warmup_start = 0;
  // piecewise: from boundary i on, lr·multipliers[i]; before the first, lr. Increasing.
  std::uint32_t boundary_count = 0;
  std::array<std::uint64_t, kMaxBoundaries> boundaries{};
  std::array<double, kMaxBoundaries> multipliers{};

  friend bool operator==(const Schedule&, const Schedule&) = default;
};

// kInvalidArgument naming the first bad field and its value.
Status validate(const Schedule& schedule);

// The rate of update `step` (from 1), in double. Both are valid. Exponential, polynomial, cosine
// and noam use the C library's pow and cos, whose last bit may differ between C libraries.
double learning_rate_at(const Schedule& schedule, double learning_rate, std::uint64_t step);

// "constant", "step", "exponential", "inverse_time", "polynomial", "cosine", "noam", "piecewise".
std::string_view schedule_name(ScheduleKind kind);

}  // namespace penstock
