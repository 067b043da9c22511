// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/update.h"

#include <algorithm>

#include "kernels/initializer.h"

namespace penstock {

void fold_for(KeyTable& key, Round round) {
  if (key.folded_for == round) return;
  key.coefficients = fold(key.declaration.spec.optimizer, round + key.earlier_steps);
  key.folded_for = round;
}

void initialize_parameters(const SliceUpdate& update, const KernelTable& kernels) {
  LaneTables& tables = update.tables;
  const SlicePlace& place = tables.placement().slices[update.index];
  const SliceStorage& at = tables.storage(update.index);
  const Declaration& declaration = tables.keys()[place.declaration].declaration;
  const TensorSpec& spec = declaration.spec;
  float* const parameters = tables.parameters(at);
  if (!spec.from_worker_0)
    initialize(spec.initializer, declaration.key, place.elements.begin,
               {parameters, place.elements.count});
  else if ((update.contributors & 1U) != 0)
    kernels.decode(tables.slot(0, place, 0), spec.parameter_dtype, parameters,
                   place.elements.count);
  else
    std::fill_n(parameters, place.elements.count, 0.0F);
  if (void* const wire = tables.wire(at, spec.parameter_dtype))
    kernels.encode(parameters, wire, spec.parameter_dtype, place.elements.count);
}

namespace {

void initialize_slice(const SliceUpdate& update, const KernelTable& kernels) {
  initialize_parameters(update, kernels);
  const SlicePlace& place = update.tables.placement().slices[update.index];
  const OptimizerSpec& optimizer =
      update.tables.keys()[place.declaration].declaration.spec.optimizer;
  const SliceStorage& at = update.tables.storage(update.index);
  for (std::uint32_t plane = 0; plane < state_planes(optimizer); ++plane)
    initialize_state(optimizer, plane, update.tables.parameters(at), place.elements.count,
                     update.tables.state(at, plane));
}

}  // namespace

UpdateArgs contributions(const SliceUpdate& update,
                         std::array<const void*, kMaxJobWorkers>& gradients) {
  const LaneTables& tables = update.tables;
  const SlicePlace& place = tables.placement().slices[update.index];
  const TensorSpec& spec = tables.keys()[place.declaration].declaration.spec;
  for (Rank worker = 0; worker < update.workers; ++worker)
    gradients[worker] = (update.contributors >> worker & 1U) == 0 ? nullptr
                        : (update.in_place >> worker & 1U) != 0
                            ? tables.mapped_gradient(worker, place)
                            : tables.slot(worker, place, update.round);
  UpdateArgs args;
  args.gradients = gradients.data();
  args.workers = update.workers;
  args.gradient_dtype = spec.gradient_dtype;
  if (spec.encoded()) args.codec = &spec.codec;
  args.count = place.elements.count;
  args.first_element = place.elements.begin;
  const double share = spec.reduce == Reduce::kMean ? update.live : 1;
  args.scale = static_cast<float>(spec.gradient_scale / share);
  return args;
}

bool HostUpdater::start(const SliceUpdate& update) {
  update_slice(update, kernels_);
  return true;
}

void update_slice(const SliceUpdate& update, const KernelTable& kernels) {
  if (update.round == 0) return initialize_slice(update, kernels);
  LaneTables& tables = update.tables;
  const SlicePlace& place = tables.placement().slices[update.index];
  const SliceStorage& at = tables.storage(update.index);
  KeyTable& key = tables.keys()[place.declaration];
  const TensorSpec& spec = key.declaration.spec;
  fold_for(key, update.round);
  std::array<const void*, kMaxJobWorkers> gradients;
  UpdateArgs args = contributions(update, gradients);
  args.parameters = tables.parameters(at);
  for (std::uint32_t plane = 0; plane < state_planes(spec.optimizer); ++plane)
    args.state[plane] = tables.state(at, plane);
  args.wire = tables.wire(at, spec.parameter_dtype);
  args.wire_dtype = spec.parameter_dtype;
  if (!kernels.update(key.coefficients, args)) tables.not_finite[update.index] = 1;
}

}  // namespace penstock
