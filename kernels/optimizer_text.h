// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// An optimizer as people write it: its name, then what differs from its usual numbers.
//   adamw
//   rmsprop:rho=0.9,momentum=0.9,centred=1,epsilon_form=inside
//   adamw:schedule=cosine,period=1000,warmup=100
//   sgd:schedule=piecewise,boundaries=100/200,multipliers=0.1/0.01
//   adamw:state_dtype=bf16,rounding_seed=7,l1=1e-5

#include <string>
#include <string_view>

#include "kernels/optimizer.h"
#include "transport/base/status.h"

namespace penstock {

// The names are those of OptimizerSpec's fields. momentum_form is velocity or scaled_velocity,
// epsilon_form outside, hat or inside, ftrl_form mcmahan or doubled, centred, relative_step and
// scale_parameter 0 or 1, state_dtype fp32 or bf16, schedule one of schedule_name(), boundaries and
// multipliers lists of as many numbers; all others are numbers.
// kInvalidArgument naming what is unknown, not a number, said twice or out of range.
Result<OptimizerSpec> parse_optimizer_spec(std::string_view text);

// "sgd, momentum, …", for messages.
std::string optimizer_names();

}  // namespace penstock
