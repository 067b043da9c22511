// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/protocol/messages.h"

// An optimizer and its schedule as a message. Ranges of numbers are validate()'s business.

namespace penstock {
namespace {

template <class Enum>
Status read_enum(std::uint8_t value, Enum last, Enum& out) {
  if (value > static_cast<std::uint8_t>(last))
    return {Code::kProtocol, "control message: unknown optimizer"};
  out = static_cast<Enum>(value);
  return {};
}

std::unique_ptr<wire::ScheduleT> to_wire(const Schedule& schedule) {
  auto out = std::make_unique<wire::ScheduleT>();
  out->kind = static_cast<std::uint8_t>(schedule.kind);
  out->period = schedule.period;
  out->factor = schedule.factor;
  out->power = schedule.power;
  out->final = schedule.final;
  out->warmup = schedule.warmup;
  out->warmup_start = schedule.warmup_start;
  for (std::uint32_t i = 0; i < schedule.boundary_count; ++i) {
    auto boundary = std::make_unique<wire::BoundaryT>();
    boundary->updates = schedule.boundaries[i];
    boundary->multiplier = schedule.multipliers[i];
    out->boundaries.push_back(std::move(boundary));
  }
  return out;
}

// An absent schedule is a constant one.
Result<Schedule> from_wire(const std::unique_ptr<wire::ScheduleT>& in) {
  Schedule out;
  if (!in) return out;
  PENSTOCK_RETURN_IF_ERROR(read_enum(in->kind, ScheduleKind::kPiecewise, out.kind));
  if (in->boundaries.size() > kMaxBoundaries)
    return Status(Code::kProtocol, "control message: a schedule with too many boundaries");
  out.period = in->period;
  out.factor = in->factor;
  out.power = in->power;
  out.final = in->final;
  out.warmup = in->warmup;
  out.warmup_start = in->warmup_start;
  for (const auto& boundary : in->boundaries) {
    out.boundaries[out.boundary_count] = boundary->updates;
    out.multipliers[out.boundary_count++] = boundary->multiplier;
  }
  return out;
}

}  // namespace

std::unique_ptr<wire::OptimizerT> to_wire(const OptimizerSpec& spec) {
  auto out = std::make_unique<wire::OptimizerT>();
  out->kind = static_cast<std::uint8_t>(spec.kind);
  out->momentum_form = static_cast<std::uint8_t>(spec.momentum_form);
  out->epsilon_form = static_cast<std::uint8_t>(spec.epsilon_form);
  out->ftrl_form = static_cast<std::uint8_t>(spec.ftrl_form);
  out->centred = spec.centred;
  out->learning_rate = spec.learning_rate;
  out->momentum = spec.momentum;
  out->beta1 = spec.beta1;
  out->beta2 = spec.beta2;
  out->rho = spec.rho;
  out->epsilon = spec.epsilon;
  out->weight_decay = spec.weight_decay;
  out->lambda1 = spec.lambda1;
  out->lambda2 = spec.lambda2;
  out->beta = spec.beta;
  out->initial_accumulator = spec.initial_accumulator;
  out->clip = spec.clip;
  out->l1 = spec.l1;
  out->compensation = spec.compensation;
  out->state_dtype = static_cast<std::uint8_t>(spec.state_dtype);
  out->rounding_seed = spec.rounding_seed;
  out->trust = spec.trust;
  out->clip_norm = spec.clip_norm;
  out->clip_global_norm = spec.clip_global_norm;
  out->beta2_decay = spec.beta2_decay;
  out->epsilon2 = spec.epsilon2;
  out->clip_threshold = spec.clip_threshold;
  out->relative_step = spec.relative_step;
  out->scale_parameter = spec.scale_parameter;
  out->schedule = to_wire(spec.schedule);
  return out;
}

Result<OptimizerSpec> from_wire(const std::unique_ptr<wire::OptimizerT>& in) {
  if (!in) return Status(Code::kProtocol, "control message: no optimizer");
  OptimizerSpec out;
  PENSTOCK_RETURN_IF_ERROR(read_enum(in->kind, OptimizerKind::kAssign, out.kind));
  PENSTOCK_RETURN_IF_ERROR(
      read_enum(in->momentum_form, MomentumForm::kScaledVelocity, out.momentum_form));
  PENSTOCK_RETURN_IF_ERROR(read_enum(in->epsilon_form, EpsilonForm::kInside, out.epsilon_form));
  PENSTOCK_RETURN_IF_ERROR(read_enum(in->ftrl_form, FtrlForm::kDoubled, out.ftrl_form));
  out.centred = in->centred;
  out.learning_rate = in->learning_rate;
  out.momentum = in->momentum;
  out.beta1 = in->beta1;
  out.beta2 = in->beta2;
  out.rho = in->rho;
  out.epsilon = in->epsilon;
  out.weight_decay = in->weight_decay;
  out.lambda1 = in->lambda1;
  out.lambda2 = in->lambda2;
  out.beta = in->beta;
  out.initial_accumulator = in->initial_accumulator;
  out.clip = in->clip;
  out.l1 = in->l1;
  out.compensation = in->compensation;
  PENSTOCK_RETURN_IF_ERROR(read_enum(in->state_dtype, StateDType::kBfloat16, out.state_dtype));
  out.rounding_seed = in->rounding_seed;
  out.trust = in->trust;
  out.clip_norm = in->clip_norm;
  out.clip_global_norm = in->clip_global_norm;
  out.beta2_decay = in->beta2_decay;
  out.epsilon2 = in->epsilon2;
  out.clip_threshold = in->clip_threshold;
  out.relative_step = in->relative_step;
  out.scale_parameter = in->scale_parameter;
  PENSTOCK_ASSIGN_OR_RETURN(out.schedule, from_wire(in->schedule));
  return out;
}

}  // namespace penstock
