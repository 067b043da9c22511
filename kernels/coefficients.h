// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the loops need to know of an optimizer at one step. Plain data: also compiled by nvcc, and
// copied to GPUs.

#include <cstdint>
#include <limits>

namespace penstock {

// The loops the kernels have; several kinds share one, with other coefficients.
enum class UpdateRule : std::uint8_t {
  kSgd,
  kMomentum,
  kNesterov,
  kAdam,
  kAdamW,
  kAdaMax,
  kAdaptive,  // adagrad, decayed_adagrad, rmsprop
  kAdaptiveMomentum,
  kCentred,
  kCentredMomentum,
  kFtrl,
  kLion,
  kAssign,
};

// Float32 arrays as long as the parameters that the rule keeps between steps. sgd, assign 0;
// momentum, nesterov, lion 1 (v, m); adam, adamw, adamax 2 (m, v or u); ftrl 2 (n, z); adagrad,
// decayed_adagrad 1 (s); rmsprop s, then a if centred, then v if it has momentum.
constexpr std::uint32_t state_planes(UpdateRule rule) {
  switch (rule) {
    case UpdateRule::kSgd:
    case UpdateRule::kAssign:
      return 0;
    case UpdateRule::kMomentum:
    case UpdateRule::kNesterov:
    case UpdateRule::kAdaptive:
    case UpdateRule::kLion:
      return 1;
    case UpdateRule::kAdam:
    case UpdateRule::kAdamW:
    case UpdateRule::kAdaMax:
    case UpdateRule::kAdaptiveMomentum:
    case UpdateRule::kCentred:
    case UpdateRule::kFtrl:
      return 2;
    case UpdateRule::kCentredMomentum:
      return 3;
  }
  return 0;
}
inline constexpr std::uint32_t kMaxRulePlanes = 3;
// After the rule's planes comes `seen`, where gradients are compensated for delay.
inline constexpr std::uint32_t kMaxStatePlanes = kMaxRulePlanes + 1;
inline constexpr std::uint32_t kUpdateRules = 13;

// How a rule's state planes are kept; `seen` is always float32.
enum class StateDType : std::uint8_t {
  kFloat32 = 0,
  kBfloat16 = 1,  // rounded stochastically: see math/rounding.h
};
constexpr std::uint32_t state_bytes(StateDType dtype) {
  return dtype == StateDType::kFloat32 ? 4 : 2;
}

inline constexpr float kNoClip = std::numeric_limits<float>::infinity();

// What the kernels need of a spec at one step: folded in double, rounded once to float. Signs are
// folded in too, so that almost every rule only adds.
struct Coefficients {
  UpdateRule rule = UpdateRule::kSgd;
  float clip = kNoClip;     // g = g within ±clip, before all that follows; NaN stays NaN
  float compensation = 0;   // g += compensation·g²·(p − seen); seen = p. 0: there is no `seen`
  float l1 = 0;             // g += l1·sign(p), sign(0) = 0
  float l2 = 0;             // g += l2·p, before the rule
  float step_gain = 0;      // p += step_gain·(what the rule makes of g)
  float momentum = 0;       // v = momentum·v + velocity_gain·g
  float velocity_gain = 1;  // 1 or −lr
  float beta1 = 0, one_minus_beta1 = 1;
  float beta2 = 0, one_minus_beta2 = 1;  // averages of squares; ρ and 1−ρ, adagrad 1 and 1
  float root_gain = 1;                   // denominator = root_gain·√v + epsilon
  float epsilon = 0;
  float inner_epsilon = 0;  // added to the average itself
  float decay_gain = 0;     // p += decay_gain·p, adamw and lion: −lr·wd
  float inverse_rate = 0;   // ftrl: 1/lr
  float lambda1 = 0;        // ftrl
  float minus_offset = 0;   // ftrl: −c
  StateDType state_dtype = StateDType::kFloat32;
  std::uint32_t rounding_key = 0;  // of bf16 state: a hash of the seed and the update's number

  friend bool operator==(const Coefficients&, const Coefficients&) = default;
};

inline std::uint32_t state_planes(const Coefficients& c) {
  return state_planes(c.rule) + (c.compensation != 0 ? 1 : 0);
}

}  // namespace penstock
