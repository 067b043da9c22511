// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/row_optimizer.h"

#include <fmt/format.h>

#include <cfloat>
#include <cmath>

namespace penstock {
namespace {

Status refuse(std::string_view field, double value, std::string_view rule) {
  return Status(Code::kInvalidArgument,
                fmt::format("row optimizer {} is {}, but must be {}", field, value, rule));
}

bool is_bound(double value, double none) { return std::abs(value) <= FLT_MAX || value == none; }

bool is_adam(RowRule rule) {
  return rule == RowRule::kNesterovAdam || rule == RowRule::kRowAdam ||
         rule == RowRule::kPaddleAdam || rule == RowRule::kPaddleSharedAdam;
}

bool is_paddle_adam(RowRule rule) {
  return rule == RowRule::kPaddleAdam || rule == RowRule::kPaddleSharedAdam;
}

Status validate_kind(const RowOptimizerSpec& spec) {
  const auto rule = static_cast<unsigned>(spec.rule);
  if (rule >= kRowRules) return refuse("rule", rule, fmt::format("below {}", kRowRules));
  if (needs_norms(spec.elements))
    return Status(
               Code::kInvalidArgument,
               fmt::format("row optimizer elements is {} with norms of a whole tensor, which rows "
                           "do not have",
                           optimizer_name(spec.elements.kind)))
        .with_hint("no lars, lamb or adafactor; leave clip_norm and clip_global_norm at 0");
  if (spec.rule == RowRule::kElements) return {};
  const OptimizerKind kind = is_adam(spec.rule) ? OptimizerKind::kAdam : OptimizerKind::kAdaGrad;
  if (spec.elements.kind != kind)
    return Status(Code::kInvalidArgument,
                  fmt::format("row optimizer elements.kind is {}, but must be {} for row rule {}",
                              optimizer_name(spec.elements.kind), optimizer_name(kind), rule));
  if (is_paddle_adam(spec.rule) && spec.elements.epsilon_form != EpsilonForm::kHat)
    return refuse("elements.epsilon_form", static_cast<unsigned>(spec.elements.epsilon_form),
                  fmt::format("1 (hat) for row rule {}", rule));
  return {};
}

}  // namespace

Status validate(const RowOptimizerSpec& spec) {
  PENSTOCK_RETURN_IF_ERROR(validate(spec.elements));
  const OptimizerSpec& elements = spec.elements;
  if (elements.l1 > 0) return refuse("elements.l1", elements.l1, "0: rows have no such stage");
  if (elements.compensation > 0)
    return refuse("elements.compensation", elements.compensation, "0: rows have no such stage");
  if (elements.state_dtype != StateDType::kFloat32)
    return refuse("elements.state_dtype", static_cast<unsigned>(elements.state_dtype), "0 (fp32)");
  PENSTOCK_RETURN_IF_ERROR(validate_kind(spec));
  if (!(spec.initial_square >= FLT_MIN && spec.initial_square <= FLT_MAX))
    return refuse("initial_square", spec.initial_square, "a normal float32 above 0");
  if (!is_bound(spec.lower, -HUGE_VAL)) return refuse("lower", spec.lower, "a float32 or -inf");
  if (!is_bound(spec.upper, HUGE_VAL)) return refuse("upper", spec.upper, "a float32 or inf");
  if (spec.lower > spec.upper)
    return refuse("lower", spec.lower, fmt::format("at most the upper bound {}", spec.upper));
  if (spec.lr_power != -0.5)
    return refuse("lr_power", spec.lr_power,
                  "-0.5: other powers need pow, whose bits differ between targets");
  return {};
}

float initial_row_state(const RowOptimizerSpec& spec, std::uint32_t plane) {
  const RowPlanes planes = row_planes(spec);
  if (is_paddle_adam(spec.rule) && plane + 2 >= planes.elements + planes.scalars)
    return static_cast<float>(plane % 2 == 0 ? spec.elements.beta1 : spec.elements.beta2);
  return is_adam(spec.rule) ? 0 : initial_state(spec.elements, plane);
}

RowCoefficients fold_rows(const RowOptimizerSpec& spec, std::uint64_t step) {
  RowCoefficients c;
  c.rule = spec.rule;
  c.elements = fold(spec.elements, step);
  if (is_paddle_adam(spec.rule))  // the rows' own powers correct the bias
    c.elements.step_gain = static_cast<float>(
        -learning_rate_at(spec.elements.schedule, spec.elements.learning_rate, step));
  c.initial_square = static_cast<float>(spec.initial_square);
  c.lower = static_cast<float>(spec.lower);
  c.upper = static_cast<float>(spec.upper);
  return c;
}

Result<RowCoefficients> fold_rows_with_powers(const RowOptimizerSpec& spec, double beta1_power,
                                              double beta2_power) {
  const OptimizerSpec& elements = spec.elements;
  const bool adam = elements.kind == OptimizerKind::kAdam || elements.kind == OptimizerKind::kAdamW;
  if (!adam || (spec.rule != RowRule::kElements && spec.rule != RowRule::kNesterovAdam))
    return refuse("rule", static_cast<unsigned>(spec.rule),
                  "0 (elements) of adam or adamw, or 1 (nesterov adam), to take powers of beta");
  if (elements.schedule.kind != ScheduleKind::kConstant || elements.schedule.warmup != 0)
    return Status(Code::kInvalidArgument,
                  fmt::format("row optimizer elements.schedule is {}, but must be constant where "
                              "workers send powers of beta: steps are not counted",
                              schedule_name(elements.schedule.kind)));
  constexpr std::string_view kPower = "in [0, 1), beta multiplied for this step already";
  if (!(beta1_power >= 0 && beta1_power < 1)) return refuse("beta1_power", beta1_power, kPower);
  if (!(beta2_power >= 0 && beta2_power < 1)) return refuse("beta2_power", beta2_power, kPower);
  RowCoefficients c = fold_rows(spec, 1);
  const double root = std::sqrt(1 - beta2_power);
  const bool hat = elements.epsilon_form == EpsilonForm::kHat;
  c.elements.root_gain = hat ? 1.0F : static_cast<float>(1 / root);
  c.elements.step_gain =
      static_cast<float>(-elements.learning_rate * (hat ? root : 1.0) / (1 - beta1_power));
  return c;
}

}  // namespace penstock
