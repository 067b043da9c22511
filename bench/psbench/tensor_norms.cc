// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// TensorSet::check() for optimizers with whole-tensor norms: a whole tensor at a time, in the job's
// slices, since the order of summation goes by them.

#include <fmt/format.h>

#include <cstring>

#include "bench/psbench/fill.h"
#include "bench/psbench/pattern.h"
#include "bench/psbench/tensor_set.h"
#include "engine/protocol/slice.h"
#include "kernels/norm_step.h"

namespace penstock::psbench {
namespace {

// One tensor as one thread would train it.
class Reference {
 public:
  Reference(const TensorSpec& spec, Key key, std::uint64_t slice_bytes)
      : spec_(spec),
        key_(key),
        wire_(spec.parameter_bytes()),
        parameters_(spec.elements()),
        sums_(spec.elements()),
        step_(spec.optimizer, spec.shape, reference()) {
    fill(wire_.data(), spec.parameter_dtype, spec.elements(),
         [&](std::uint64_t i) { return pattern_initial(key, i); });
    reference().decode(wire_.data(), spec.parameter_dtype, parameters_.data(), spec.elements());
    for (std::uint32_t plane = 0; plane < state_planes(spec.optimizer); ++plane) {
      state_[plane].resize(spec.elements() * state_bytes(spec.optimizer, plane));
      initialize_state(spec.optimizer, plane, parameters_.data(), spec.elements(),
                       state_[plane].data());
    }
    for (const Slice& at : cut(spec.elements(), spec.slice_element_bytes(), slice_bytes)) {
      NormSlice& slice = slices_.emplace_back();
      slice.sums = sums_.data() + at.begin;
      slice.parameters = parameters_.data() + at.begin;
      for (std::uint32_t plane = 0; plane < state_planes(spec.optimizer); ++plane)
        slice.state[plane] = state_[plane].data() + at.begin * state_bytes(spec.optimizer, plane);
      slice.wire = wire_.data() + at.begin * dtype_bytes(spec.parameter_dtype);
      slice.wire_dtype = spec.parameter_dtype;
      slice.count = at.count;
      slice.first = at.begin;
    }
    parts_.resize(slices_.size());
  }

  NormSums sum(Round round, std::uint32_t workers) {
    step_.begin(round);
    std::vector<std::vector<std::byte>> gradients(workers), encoded(workers);
    if (spec_.encoded()) residuals_.resize(workers, std::vector<float>(spec_.elements()));
    std::vector<const void*> pointers;
    for (std::size_t i = 0; i < slices_.size(); ++i) {
      const std::uint64_t first = slices_[i].first;
      pointers.clear();
      for (Rank worker = 0; worker < workers; ++worker) {
        gradients[worker].resize(slices_[i].count * dtype_bytes(spec_.gradient_dtype));
        fill(gradients[worker].data(), spec_.gradient_dtype, slices_[i].count,
             [&](std::uint64_t at) { return pattern_gradient(worker, key_, round, first + at); });
        pointers.push_back(gradients[worker].data());
        if (!spec_.encoded()) continue;
        encoded[worker].resize(spec_.slot_bytes(slices_[i].count));
        reference().codecs->encode(
            spec_.codec, reinterpret_cast<const float*>(gradients[worker].data()),
            residuals_[worker].data() + first, encoded[worker].data(), slices_[i].count);
        pointers.back() = encoded[worker].data();
      }
      UpdateArgs args;
      args.gradients = pointers.data();
      args.workers = workers;
      args.gradient_dtype = spec_.gradient_dtype;
      if (spec_.encoded()) args.codec = &spec_.codec;
      args.count = slices_[i].count;
      args.scale = spec_.reduce == Reduce::kMean ? 1.0F / static_cast<float>(workers) : 1.0F;
      parts_[i] = step_.sum(args, slices_[i]);
    }
    return add_in_order(parts_);
  }

  void finish(const NormSums& sums, double group) {
    if (step_.waits_for_sums()) step_.set_sums(sums, group);
    if (step_.has_factors()) {
      for (const NormSlice& slice : slices_) step_.factor(slice);
      step_.set_factors();
    }
    if (step_.has_direction()) {
      for (std::size_t i = 0; i < slices_.size(); ++i) parts_[i] = step_.direction(slices_[i]);
      step_.set_direction(add_in_order(parts_));
    }
    for (const NormSlice& slice : slices_) step_.apply(slice);
  }

  const std::vector<std::byte>& wire() const { return wire_; }

 private:
  const TensorSpec& spec_;
  const Key key_;
  std::vector<std::byte> wire_;
  std::vector<float> parameters_, sums_;
  std::vector<std::byte> state_[kMaxStatePlanes];
  std::vector<std::vector<float>> residuals_;  // [worker], of the codec
  std::vector<NormSlice> slices_;
  std::vector<NormSums> parts_;
  NormStep step_;
};

}  // namespace

std::uint64_t TensorSet::check_norms(Round round, std::string& first_wrong) const {
  // The sums of squares of all tensors, round by round: they depend on the gradients alone.
  std::vector<double> groups(round + 1);
  if (options_.optimizer.clip_global_norm > 0)
    for (std::size_t i = 0; i < items_.size(); ++i) {
      Reference tensor(items_[i].spec, key(i), slice_bytes_);
      for (Round r = 1; r <= round; ++r) groups[r] += tensor.sum(r, workers_).first;
    }
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Reference tensor(items_[i].spec, key(i), slice_bytes_);
    for (Round r = 1; r <= round; ++r) tensor.finish(tensor.sum(r, workers_), groups[r]);
    const std::size_t bytes = dtype_bytes(options_.dtype);
    for (std::uint64_t at = 0; at < items_[i].elements; ++at) {
      if (std::memcmp(items_[i].parameters.data() + at * bytes, tensor.wire().data() + at * bytes,
                      bytes) == 0)
        continue;
      if (wrong++ == 0 && first_wrong.empty())
        first_wrong = fmt::format("key {} '{}' element {} after round {}", key(i),
                                  items_[i].spec.name, at, round);
    }
  }
  return wrong;
}

}  // namespace penstock::psbench
