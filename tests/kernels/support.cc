// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/support.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kernels/math/half.h"

namespace penstock::test {
namespace {
constexpr std::size_t kLine = 64;
constexpr std::byte kGuard{0xa5};
}  // namespace

Array::Array(std::size_t bytes, std::size_t offset)
    : storage_(bytes + offset + 3 * kLine, kGuard), bytes_(bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
  shift_ = (kLine - address % kLine) % kLine + offset;
  std::fill_n(storage_.begin() + static_cast<std::ptrdiff_t>(shift_), bytes, std::byte{0});
}

std::vector<std::byte> Array::bytes() const {
  const auto from = storage_.begin() + static_cast<std::ptrdiff_t>(shift_);
  return {from, from + static_cast<std::ptrdiff_t>(bytes_)};
}

bool Array::guards_intact() const {
  const auto guard = [](std::byte b) { return b == kGuard; };
  const auto start = storage_.begin() + static_cast<std::ptrdiff_t>(shift_);
  return std::all_of(storage_.begin(), start, guard) &&
         std::all_of(start + static_cast<std::ptrdiff_t>(bytes_), storage_.end(), guard);
}

float random_float(SeededRandom& random, Flavour flavour) {
  const std::uint64_t bits = random.next();
  const auto word = static_cast<std::uint32_t>(bits >> 32);
  const float unit = static_cast<float>(bits >> 40) * 0x1p-23F - 1;  // [−1, 1)
  static constexpr std::uint32_t kSpecial[] = {0,           0x8000'0000, 0x7f80'0000, 0xff80'0000,
                                               0x7fc0'0000, 0xffc0'0001, 0x7f80'0001, 0x7f7f'ffff,
                                               0xff7f'ffff, 0x0000'0001, 0x8000'0001, 0x0080'0000};
  switch (flavour) {
    case Flavour::kOrdinary:
      return unit;
    case Flavour::kSubnormal:  // of float32 or, scaled, of fp16
      return bits % 2 == 0 ? std::bit_cast<float>(word & 0x807f'ffff) : unit * 0x1p-15F;
    case Flavour::kExtreme:
      if (bits % 2 == 0) return unit * 1e38F;
      return std::bit_cast<float>(kSpecial[bits / 2 % std::size(kSpecial)]);
    case Flavour::kAnyBits:
      return std::bit_cast<float>(word);
  }
  return 0;
}

std::string describe(const Case& c) {
  return fmt::format(
      "{} forms {}/{}/{} centred={} μ={} W={} count={} {}→{} wire={} stream={} offset={} "
      "flavour={} absent={} l1={} λ={} state={} first={} seed={}",
      optimizer_name(c.optimizer.kind), static_cast<int>(c.optimizer.momentum_form),
      static_cast<int>(c.optimizer.epsilon_form), static_cast<int>(c.optimizer.ftrl_form),
      c.optimizer.centred, c.optimizer.momentum, c.workers, c.count, dtype_name(c.gradient_dtype),
      dtype_name(c.wire_dtype), c.has_wire, c.stream_wire, c.offset, static_cast<int>(c.flavour),
      c.absent_per_million, c.optimizer.l1, c.optimizer.compensation,
      static_cast<int>(c.optimizer.state_dtype), c.first_element, c.seed);
}

const std::vector<OptimizerSpec>& optimizer_variants() {
  static const std::vector<OptimizerSpec> all = [] {
    std::vector<OptimizerSpec> specs;
    for (std::uint32_t kind = 0; kind < kOptimizerKinds; ++kind)
      for (int form = 0; form < 16; ++form) {
        OptimizerSpec spec = default_optimizer(static_cast<OptimizerKind>(kind));
        if (needs_norms(spec)) continue;
        if (spec.kind != OptimizerKind::kAssign) spec.weight_decay = 0.02;
        spec.lambda1 = 0.3;
        spec.lambda2 = 0.1;
        spec.initial_accumulator = 0.1;
        spec.clip = (form & 2) != 0 ? 0.25 : 0;
        spec.momentum_form = static_cast<MomentumForm>(form & 1);
        spec.ftrl_form = static_cast<FtrlForm>(form & 1);
        if ((form & 2) != 0) spec.epsilon_form = EpsilonForm::kInside;
        if (!validate(spec).ok()) spec.epsilon_form = EpsilonForm::kHat;
        spec.centred = (form & 4) != 0;
        if (spec.kind == OptimizerKind::kRmsProp) spec.momentum = (form & 8) != 0 ? 0.9 : 0;
        const bool rmsprop = spec.kind == OptimizerKind::kRmsProp;
        if (rmsprop || form < 4) specs.push_back(spec);
      }
    return specs;
  }();
  return all;
}

std::vector<OptimizerSpec> with_stages(const OptimizerSpec& spec) {
  std::vector<OptimizerSpec> specs;
  for (int stages = 1; stages < 8; ++stages) {
    if (stages > 4 && stages < 7) continue;  // each alone, two together, all
    OptimizerSpec staged = spec;
    if ((stages & 1) != 0 && spec.kind != OptimizerKind::kFtrl) staged.l1 = 0.05;
    if ((stages & 2) != 0) staged.compensation = 0.4;
    if ((stages & 4) != 0) staged.state_dtype = StateDType::kBfloat16;
    staged.rounding_seed = 3;
    specs.push_back(staged);
  }
  return specs;
}

Arrays::Arrays(const Case& c)
    : case_(c),
      parameters_(c.count * sizeof(float), c.offset),
      wire_(c.count * dtype_bytes(c.wire_dtype), c.offset) {
  SeededRandom random(c.seed);
  for (std::uint32_t w = 0; w < c.workers; ++w) {
    Array& gradient = gradients_.emplace_back(c.count * dtype_bytes(c.gradient_dtype), c.offset);
    for (std::size_t i = 0; i < c.count; ++i) {
      const float value = random_float(random, c.flavour);
      if (c.gradient_dtype == DType::kFloat32) gradient.as<float>()[i] = value;
      if (c.gradient_dtype == DType::kFloat16)
        gradient.as<std::uint16_t>()[i] = float_to_fp16(value);
      if (c.gradient_dtype == DType::kBfloat16)
        gradient.as<std::uint16_t>()[i] = float_to_bf16(value);
    }
  }
  for (Array& gradient : gradients_)
    pointers_.push_back(random.chance(c.absent_per_million) ? nullptr : gradient.as<void>());
  for (std::size_t i = 0; i < c.count; ++i)
    parameters_.as<float>()[i] = random_float(random, c.flavour);
  for (std::uint32_t s = 0; s < state_planes(c.optimizer); ++s)
    initialize_state(
        c.optimizer, s, parameters_.as<float>(), c.count,
        state_.emplace_back(c.count * state_bytes(c.optimizer, s), c.offset).as<void>());
}

UpdateArgs Arrays::args() {
  UpdateArgs args;
  args.gradients = pointers_.data();
  args.workers = case_.workers;
  args.gradient_dtype = case_.gradient_dtype;
  args.parameters = parameters_.as<float>();
  for (std::size_t s = 0; s < state_.size(); ++s) args.state[s] = state_[s].as<void>();
  args.wire = case_.has_wire ? wire_.as<void>() : nullptr;
  args.wire_dtype = case_.wire_dtype;
  args.count = case_.count;
  args.first_element = case_.first_element;
  args.scale = case_.scale;
  args.stream_wire = case_.stream_wire;
  return args;
}

bool Arrays::update(const KernelTable& kernels, std::uint64_t step) {
  return kernels.update(fold(case_.optimizer, step), args());
}

std::vector<std::byte> Arrays::results() const {
  std::vector<std::byte> all = parameters_.bytes();
  for (const Array& state : state_) {
    const std::vector<std::byte> more = state.bytes();
    all.insert(all.end(), more.begin(), more.end());
  }
  const std::vector<std::byte> wire = wire_.bytes();
  all.insert(all.end(), wire.begin(), wire.end());
  return all;
}

bool Arrays::guards_intact() const {
  const auto intact = [](const Array& array) { return array.guards_intact(); };
  return intact(parameters_) && intact(wire_) && std::all_of(state_.begin(), state_.end(), intact);
}

std::vector<float> Arrays::parameters() {
  const auto* values = parameters_.as<float>();
  return {values, values + case_.count};
}

std::vector<float> Arrays::state(std::uint32_t plane) {
  if (state_bytes(case_.optimizer, plane) == 2) {
    std::vector<float> decoded;
    const auto* codes = state_[plane].as<std::uint16_t>();
    for (std::size_t i = 0; i < case_.count; ++i) decoded.push_back(bf16_to_float(codes[i]));
    return decoded;
  }
  const auto* values = state_[plane].as<float>();
  return {values, values + case_.count};
}

std::vector<std::vector<float>> Arrays::present_gradients() {
  std::vector<std::vector<float>> present;
  for (const void* pointer : pointers_) {
    if (pointer == nullptr) continue;
    std::vector<float>& values = present.emplace_back(case_.count);
    for (std::size_t i = 0; i < case_.count; ++i) {
      if (case_.gradient_dtype == DType::kFloat32)
        values[i] = static_cast<const float*>(pointer)[i];
      else if (case_.gradient_dtype == DType::kFloat16)
        values[i] = fp16_to_float(static_cast<const std::uint16_t*>(pointer)[i]);
      else
        values[i] = bf16_to_float(static_cast<const std::uint16_t*>(pointer)[i]);
    }
  }
  return present;
}

double ulps(float actual, double expected) {
  if (std::isnan(actual) && std::isnan(expected)) return 0;
  if (static_cast<double>(actual) == expected) return 0;
  const auto rounded = std::abs(static_cast<float>(expected));
  const float spacing = std::nextafter(rounded, std::numeric_limits<float>::infinity()) - rounded;
  return std::abs(static_cast<double>(actual) - expected) / static_cast<double>(spacing);
}

}  // namespace penstock::test
