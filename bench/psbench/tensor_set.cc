// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/tensor_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "bench/psbench/fill.h"
#include "bench/psbench/pattern.h"
#include "kernels/table.h"

namespace penstock::psbench {
Result<TensorSet> TensorSet::create(const Model& model, const TensorSetOptions& options,
                                    Worker& worker) {
  constexpr std::uint64_t kPage = 4096;
  const auto pages = [](std::uint64_t bytes) { return (bytes + kPage - 1) / kPage * kPage; };
  TensorSet set;
  set.options_ = options;
  set.workers_ = worker.workers();
  set.slice_bytes_ = worker.slice_bytes();
  std::uint64_t all_bytes = 0;
  for (std::size_t i = 0; i < model.tensors.size(); ++i) {
    Item item;
    item.elements = model.tensors[i].elements;
    item.spec.name = model.tensors[i].name;
    item.spec.shape = model.tensors[i].shape;
    item.spec.parameter_dtype = options.dtype;
    item.spec.codec = options.codec;
    item.spec.gradient_dtype = item.spec.encoded() ? DType::kFloat32 : options.dtype;
    item.spec.optimizer = options.optimizer;
    item.spec.reduce = options.reduce;
    item.spec.priority = -static_cast<std::int32_t>(i);
    all_bytes += pages(item.spec.gradient_bytes()) + pages(item.spec.parameter_bytes());
    set.items_.push_back(std::move(item));
  }
  PENSTOCK_ASSIGN_OR_RETURN(set.memory_, worker.allocate(all_bytes));
  std::span<std::byte> rest = set.memory_->bytes();
  const auto take = [&](std::uint64_t bytes) {
    const std::span<std::byte> taken = rest.first(bytes);
    rest = rest.subspan(pages(bytes));
    return taken;
  };
  for (Item& item : set.items_) {
    item.gradients = take(item.spec.gradient_bytes());
    item.parameters = take(item.spec.parameter_bytes());
  }
  return set;
}

std::vector<Tensor> TensorSet::tensors() const {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < items_.size(); ++i)
    tensors.push_back({key(i), items_[i].spec, items_[i].gradients, items_[i].parameters});
  return tensors;
}

void TensorSet::fill_initial() {
  for (std::size_t i = 0; i < items_.size(); ++i)
    fill(items_[i].parameters.data(), options_.dtype, items_[i].elements,
         [&](std::uint64_t element) { return pattern_initial(key(i), element); });
}

void TensorSet::fill_gradients(Rank worker, Round round) {
  for (std::size_t i = 0; i < items_.size(); ++i)
    fill(items_[i].gradients.data(), items_[i].spec.gradient_dtype, items_[i].elements,
         [&](std::uint64_t element) { return pattern_gradient(worker, key(i), round, element); });
}

std::uint64_t TensorSet::check(Round round, std::string& first_wrong) const {
  if (needs_norms(options_.optimizer)) return check_norms(round, first_wrong);
  std::uint64_t wrong = 0;
  for (std::size_t i = 0; i < items_.size(); ++i)
    for (const Slice& block : check_blocks(items_[i]))
      wrong += check_block(items_[i], key(i), round, block.begin, block.count, first_wrong);
  return wrong;
}

// Small enough for the first-level cache, or a codec's slices: some choose among all of a slice.
std::vector<Slice> TensorSet::check_blocks(const Item& item) const {
  if (item.spec.encoded()) return cut(item.elements, item.spec.slice_element_bytes(), slice_bytes_);
  std::vector<Slice> blocks;
  for (std::uint64_t begin = 0; begin < item.elements; begin += kBlock)
    blocks.push_back({begin, std::min(kBlock, item.elements - begin)});
  return blocks;
}

std::uint64_t TensorSet::check_block(const Item& item, Key key, Round round, std::uint64_t begin,
                                     std::uint64_t count, std::string& first_wrong) const {
  using Bytes = std::vector<std::byte>;
  const TensorSpec& spec = item.spec;
  const std::vector<float> zeros(count);
  std::vector<float> parameters = zeros;
  std::vector<std::vector<float>> state(kMaxStatePlanes, zeros), residuals(workers_, zeros);
  Bytes wire(count * sizeof(float));
  std::vector<Bytes> gradients(workers_, wire), encoded(workers_, Bytes(spec.slot_bytes(count)));
  std::array<const void*, kMaxWorkers> pointers{};
  fill(wire.data(), options_.dtype, count,
       [&](std::uint64_t i) { return pattern_initial(key, begin + i); });
  reference().decode(wire.data(), options_.dtype, parameters.data(), count);
  for (std::uint32_t plane = 0; plane < state_planes(options_.optimizer); ++plane)
    initialize_state(options_.optimizer, plane, parameters.data(), count, state[plane].data());
  for (Round r = 1; r <= round; ++r) {
    for (Rank worker = 0; worker < workers_; ++worker) {
      fill(gradients[worker].data(), spec.gradient_dtype, count,
           [&](std::uint64_t i) { return pattern_gradient(worker, key, r, begin + i); });
      pointers[worker] = gradients[worker].data();
      if (!spec.encoded()) continue;
      reference().codecs->encode(spec.codec, reinterpret_cast<const float*>(pointers[worker]),
                                 residuals[worker].data(), encoded[worker].data(), count);
      pointers[worker] = encoded[worker].data();
    }
    UpdateArgs args;
    args.gradients = pointers.data();
    args.workers = workers_;
    args.gradient_dtype = spec.gradient_dtype;
    args.wire_dtype = options_.dtype;
    if (spec.encoded()) args.codec = &spec.codec;
    args.parameters = parameters.data();
    for (std::uint32_t plane = 0; plane < kMaxStatePlanes; ++plane)
      args.state[plane] = state[plane].data();
    args.wire = wire.data();
    args.count = count;
    args.first_element = begin;
    args.scale = options_.reduce == Reduce::kMean ? 1.0F / static_cast<float>(workers_) : 1.0F;
    reference().update(fold(options_.optimizer, r), args);
  }
  const std::size_t bytes = dtype_bytes(options_.dtype);
  const std::byte* const got = item.parameters.data() + begin * bytes;
  if (std::memcmp(got, wire.data(), count * bytes) == 0) return 0;
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (std::memcmp(got + i * bytes, wire.data() + i * bytes, bytes) == 0) continue;
    if (wrong++ == 0 && first_wrong.empty())
      first_wrong = fmt::format("key {} '{}' element {} after round {}", key, item.spec.name,
                                begin + i, round);
  }
  return wrong;
}

std::uint64_t TensorSet::audit(Round round, std::string& first_wrong) {
  std::uint64_t wrong = 0;
  std::array<float, kBlock> expected;
  std::array<std::byte, kBlock * sizeof(float)> wire;
  const std::size_t bytes = dtype_bytes(options_.dtype);
  for (std::size_t index = 0; index < items_.size(); ++index) {
    Item& item = items_[index];
    if (item.ledger.empty())
      for (std::uint64_t i = 0; i < item.elements; ++i)
        item.ledger.push_back(pattern_initial(key(index), i));
    for (std::uint64_t begin = 0; begin < item.elements; begin += kBlock) {
      const std::uint64_t count = std::min(kBlock, item.elements - begin);
      for (std::uint64_t i = 0; i < count; ++i) {
        for (Rank worker = 0; worker < workers_; ++worker)
          item.ledger[begin + i] -= pattern_gradient(worker, key(index), round, begin + i);
        expected[i] = static_cast<float>(item.ledger[begin + i]);
      }
      reference().encode(expected.data(), wire.data(), options_.dtype, count);
      const std::byte* const got = item.parameters.data() + begin * bytes;
      for (std::uint64_t i = 0; i < count; ++i)
        if (std::memcmp(got + i * bytes, wire.data() + i * bytes, bytes) != 0 && wrong++ == 0 &&
            first_wrong.empty())
          first_wrong = fmt::format("key {} '{}' element {} after round {}", key(index),
                                    item.spec.name, begin + i, round);
    }
  }
  return wrong;
}

}  // namespace penstock::psbench
