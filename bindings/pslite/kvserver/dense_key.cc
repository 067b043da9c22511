// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/kvserver/dense_key.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace penstock::kvserver {

DenseKey::DenseKey(ElementType element, std::size_t count)
    : element_(element), count_(count), pool_(count * element_bytes(element)) {}

// An empty part has no bytes to point to, which memcpy() and the kernels do not take.
void DenseKey::assign(const Arithmetic& arithmetic, const Gradient& values) {
  value_ = pool_.take();
  kept_ = false;
  if (count_ == 0) return;
  if (values.encoded) {
    arithmetic.kernels.codecs->decode(arithmetic.codec, values.bytes,
                                      reinterpret_cast<float*>(value_.data()), count_);
  } else {
    std::memcpy(value_.data(), values.bytes, bytes());
  }
}

Status DenseKey::apply(const Arithmetic& arithmetic, std::span<const Gradient> gradients) {
  if (gradients.empty() || gradients.size() > kMaxWorkers)
    return {Code::kInvalidArgument, fmt::format("an update of {} gradients", gradients.size())};
  if (count_ == 0) return {};
  if (arithmetic.optimizer != nullptr) return step(arithmetic, gradients);
  replace(arithmetic, gradients);
  return {};
}

bool DenseKey::keeps_parameters(const Arithmetic& arithmetic) const {
  return element_ == ElementType::kFloat32 || arithmetic.multi_precision;
}

// ---- without an optimizer -----------------------------------------------------------------------

// With multi-precision halves are summed as floats and rounded once.
void DenseKey::replace(const Arithmetic& arithmetic, std::span<const Gradient> gradients) {
  const auto dtype = kernel_dtype(element_);
  const bool encoded = std::any_of(gradients.begin(), gradients.end(),
                                   [](const Gradient& gradient) { return gradient.encoded; });
  ps::SArray<char> sum = pool_.take();
  kept_ = false;
  if (encoded || (arithmetic.multi_precision && dtype)) {
    sum_floats(arithmetic, gradients);
    arithmetic.kernels.encode(scratch_.data(), sum.data(), *dtype, count_);
    parameters_ = scratch_;
    kept_ = keeps_parameters(arithmetic);
  } else {
    std::memcpy(sum.data(), gradients.front().bytes, bytes());
    for (const Gradient& gradient : gradients.subspan(1))
      add_elements(element_, sum.data(), gradient.bytes, count_);
  }
  value_ = sum;
}

// Into scratch_.
void DenseKey::sum_floats(const Arithmetic& arithmetic, std::span<const Gradient> gradients) {
  const DType dtype = *kernel_dtype(element_);
  std::vector<float> one(count_);
  scratch_.assign(count_, 0);
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    float* const to = i == 0 ? scratch_.data() : one.data();
    if (gradients[i].encoded)
      arithmetic.kernels.codecs->decode(arithmetic.codec, gradients[i].bytes, to, count_);
    else
      arithmetic.kernels.decode(gradients[i].bytes, dtype, to, count_);
    if (i != 0) add_elements(ElementType::kFloat32, scratch_.data(), one.data(), count_);
  }
}

// ---- with one -----------------------------------------------------------------------------------

void DenseKey::begin_state(const Arithmetic& arithmetic) {
  const OptimizerSpec& spec = arithmetic.optimizer->spec;
  for (std::uint32_t plane = 0; plane < kMaxStatePlanes; ++plane) {
    state_[plane].clear();
    if (plane >= state_planes(spec)) continue;
    state_[plane].resize(count_ * state_bytes(spec, plane));
    initialize_state(spec, plane, parameters_.data(), count_, state_[plane].data());
  }
  generation_ = arithmetic.generation;
  steps_ = 0;
}

Status DenseKey::step(const Arithmetic& arithmetic, std::span<const Gradient> gradients) {
  const auto dtype = kernel_dtype(element_);
  if (!dtype)
    return Status(Code::kUnsupported,
                  fmt::format("an optimizer is set, but element type {} can only be summed",
                              static_cast<int>(element_)))
        .with_hint("push fp32, fp16 or bf16");
  if (!kept_) {
    parameters_.resize(count_);
    arithmetic.kernels.decode(value_.data(), *dtype, parameters_.data(), count_);
  }
  if (generation_ != arithmetic.generation) begin_state(arithmetic);

  UpdateArgs args;
  std::array<const void*, kMaxWorkers> pointers{};
  args.workers = static_cast<std::uint32_t>(gradients.size());
  args.gradient_dtype = *dtype;
  std::size_t encoded = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    pointers[i] = gradients[i].bytes;
    encoded += gradients[i].encoded ? 1 : 0;
  }
  if (encoded == gradients.size()) args.codec = &arithmetic.codec;
  if (encoded != 0 && encoded != gradients.size()) {  // some workers compress, some do not
    sum_floats(arithmetic, gradients);
    pointers[0] = scratch_.data();
    args.workers = 1;
    args.gradient_dtype = DType::kFloat32;
  }
  args.gradients = pointers.data();
  args.parameters = parameters_.data();
  for (std::uint32_t plane = 0; plane < kMaxStatePlanes; ++plane)
    args.state[plane] = state_[plane].empty() ? nullptr : state_[plane].data();
  const ps::SArray<char> updated = pool_.take();
  args.wire = updated.data();
  args.wire_dtype = *dtype;
  args.count = count_;
  args.scale = arithmetic.optimizer->scale;
  arithmetic.kernels.update(arithmetic.optimizer->fold(++steps_), args);
  value_ = updated;
  kept_ = keeps_parameters(arithmetic);
  return {};
}

}  // namespace penstock::kvserver
