// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/rows_support.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace penstock::test {
namespace {

std::vector<RowOptimizerSpec> forms_of(RowRule rule) {
  const bool adagrad = rule == RowRule::kRowAdaGrad || rule == RowRule::kPaddleAdaGrad ||
                       rule == RowRule::kPaddleStdAdaGrad;
  std::vector<RowOptimizerSpec> specs;
  for (EpsilonForm form : {EpsilonForm::kOutside, EpsilonForm::kHat, EpsilonForm::kInside})
    for (bool plain : {true, false}) {
      RowOptimizerSpec spec;
      spec.rule = rule;
      spec.elements = default_optimizer(adagrad ? OptimizerKind::kAdaGrad : OptimizerKind::kAdam);
      spec.elements.epsilon_form = form;
      if (!plain) {
        spec.elements.weight_decay = 0.02;
        spec.elements.clip = 0.4;
        spec.lower = -0.6;
        spec.upper = 0.7;
      }
      if (validate(spec).ok()) specs.push_back(spec);
    }
  return specs;
}

}  // namespace

std::string describe(const RowCase& c) {
  const OptimizerSpec& spec = c.optimizer.elements;
  return fmt::format(
      "row rule {} of {} forms {}/{}/{} centred={} rows={} width={} gap={} touched={} beyond={} "
      "coverage={} flavour={} offset={} seed={}",
      static_cast<int>(c.optimizer.rule), optimizer_name(spec.kind),
      static_cast<int>(spec.momentum_form), static_cast<int>(spec.epsilon_form),
      static_cast<int>(spec.ftrl_form), spec.centred, c.rows, c.width, c.gap, c.touched, c.beyond,
      static_cast<int>(c.coverage), static_cast<int>(c.flavour), c.offset, c.seed);
}

const std::vector<RowOptimizerSpec>& row_variants() {
  static const std::vector<RowOptimizerSpec> all = [] {
    std::vector<RowOptimizerSpec> specs;
    for (const OptimizerSpec& elements : optimizer_variants()) {
      RowOptimizerSpec spec;
      spec.elements = elements;
      specs.push_back(spec);
    }
    for (std::uint32_t rule = 1; rule < kRowRules; ++rule)
      for (const RowOptimizerSpec& spec : forms_of(static_cast<RowRule>(rule)))
        specs.push_back(spec);
    return specs;
  }();
  return all;
}

RowArrays::RowArrays(const RowCase& c)
    : case_(c), random_(c.seed), parameters_(c.rows * (c.width + c.gap) * sizeof(float), c.offset) {
  const std::size_t floats = c.rows * stride();
  for (std::size_t i = 0; i < floats; ++i)
    parameters_.as<float>()[i] = random_float(random_, c.flavour);
  const RowPlanes planes = row_planes(c.optimizer);
  for (std::uint32_t s = 0; s < planes.elements + planes.scalars; ++s) {
    const std::size_t size = s < planes.elements ? floats : c.rows * (1 + c.gap);
    std::fill_n(planes_.emplace_back(size * sizeof(float), c.offset).as<float>(), size,
                initial_row_state(c.optimizer, s));
  }
  new_gradients();
}

void RowArrays::new_gradients() {
  std::vector<std::uint32_t> rows(case_.rows);
  std::iota(rows.begin(), rows.end(), 0U);
  for (std::size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[random_.below(i)]);
  rows.resize(case_.touched);
  std::sort(rows.begin(), rows.end());
  for (std::size_t i = 0; i < case_.beyond; ++i)
    rows.push_back(static_cast<std::uint32_t>(case_.rows + i * 1000));
  touched_ = rows;
  gradients_.resize(touched_.size() * case_.width);
  for (float& g : gradients_) g = random_float(random_, case_.flavour);
}

RowUpdateArgs RowArrays::args() {
  RowUpdateArgs args;
  args.table.parameters = {parameters_.as<float>(), stride()};
  const RowPlanes planes = row_planes(case_.optimizer);
  for (std::uint32_t s = 0; s < planes_.size(); ++s)
    args.table.state[s] = {planes_[s].as<float>(), s < planes.elements ? stride() : 1 + case_.gap};
  args.table.rows = case_.rows;
  args.table.width = case_.width;
  args.rows = touched_.data();
  args.gradients = gradients_.data();
  args.count = touched_.size();
  args.scale = case_.scale;
  args.coverage = case_.coverage;
  return args;
}

std::size_t RowArrays::update(const RowKernels& kernels, std::uint64_t step) {
  return kernels.update(fold_rows(case_.optimizer, step), args());
}

float& RowArrays::parameter(std::uint64_t row, std::size_t i) {
  return parameters_.as<float>()[row * stride() + i];
}

float& RowArrays::state(std::uint32_t plane, std::uint64_t row, std::size_t i) {
  const RowPlane at = args().table.state[plane];
  return at.data[row * at.stride + i];
}

const float* RowArrays::gradient(std::uint64_t row) const {
  const auto found = std::lower_bound(touched_.begin(), touched_.end(), row);
  if (found == touched_.end() || *found != row) return nullptr;
  return gradients_.data() + static_cast<std::size_t>(found - touched_.begin()) * case_.width;
}

std::vector<std::byte> RowArrays::results() const {
  std::vector<std::byte> all = parameters_.bytes();
  for (const Array& plane : planes_) {
    const std::vector<std::byte> more = plane.bytes();
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

bool RowArrays::guards_intact() const {
  return parameters_.guards_intact() &&
         std::all_of(planes_.begin(), planes_.end(),
                     [](const Array& plane) { return plane.guards_intact(); });
}

}  // namespace penstock::test
