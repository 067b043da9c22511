// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/gpu_batch.h"

#include <cstring>

#include "transport/base/check.h"

namespace penstock {
namespace {

constexpr std::size_t kTableAlignment = 256;  // of the table of each batch
constexpr std::size_t kEntryAlignment = 16;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

GpuBatch::GpuBatch(std::uint32_t workers) {
  CHECK(workers >= 1);
  steps_.reserve(kMaxSlices);
  passes_.reserve(std::size_t{kMaxSlices} * kMostPasses);
}

std::size_t GpuBatch::table_bytes(std::uint32_t workers) {
  const std::size_t slice = (workers + std::size_t{2}) * sizeof(void*) + sizeof(cuda::SliceStep) +
                            kMostPasses * sizeof(cuda::SlicePass);
  return round_up(kMaxSlices * slice + 2 * kEntryAlignment, kTableAlignment);
}

void GpuBatch::begin(std::byte* host, std::byte* device) {
  host_ = host;
  device_ = device;
  used_ = 0;
  steps_.clear();
  passes_.clear();
}

const void* const* GpuBatch::put(std::span<const void* const> gradients) {
  const std::size_t at = used_;
  std::memcpy(host_ + at, gradients.data(), gradients.size_bytes());
  used_ += gradients.size_bytes();
  return reinterpret_cast<const void* const*>(device_ + at);
}

void GpuBatch::step(UpdateRule rule, cuda::GradientType gradients, const cuda::SliceStep& slice) {
  CHECK(steps_.size() < kMaxSlices);
  steps_.push_back({{rule, gradients}, slice});
}

void GpuBatch::pass(cuda::Pass pass, cuda::GradientType gradients, const cuda::SlicePass& slice) {
  CHECK(passes_.size() < std::size_t{kMaxSlices} * kMostPasses);
  passes_.push_back({{pass, gradients}, slice});
}

// Sorts the entries by kernel and puts their slices behind one another, numbering the blocks of
// each launch; returns where in the table they begin.
template <class Entries>
std::size_t GpuBatch::write(Entries& entries) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.kernel < b.kernel; });
  used_ = round_up(used_, kEntryAlignment);
  const std::size_t begin = used_;
  std::uint32_t blocks = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (i > 0 && entries[i].kernel != entries[i - 1].kernel) blocks = 0;
    auto& slice = entries[i].slice;
    slice.first_block = blocks;
    blocks += cuda::blocks_of(slice.count);
    std::memcpy(host_ + used_, &slice, sizeof slice);
    used_ += sizeof slice;
  }
  return begin;
}

// Calls `start(kernel, first, count, blocks)` for every launch.
template <class Entries, class Start>
Status GpuBatch::start(const Entries& entries, const Start& start) {
  for (std::size_t begin = 0; begin < entries.size();) {
    std::size_t end = begin + 1;
    while (end < entries.size() && entries[end].kernel == entries[begin].kernel) ++end;
    const auto& last = entries[end - 1].slice;
    PENSTOCK_RETURN_IF_ERROR(start(entries[begin].kernel, begin,
                                   static_cast<std::uint32_t>(end - begin),
                                   last.first_block + cuda::blocks_of(last.count)));
    begin = end;
  }
  return {};
}

Status GpuBatch::launch(ComputeStream& stream) {
  if (steps_.empty() && passes_.empty()) return {};
  const auto* const steps = reinterpret_cast<const cuda::SliceStep*>(device_ + write(steps_));
  const auto* const passes = reinterpret_cast<const cuda::SlicePass*>(device_ + write(passes_));
  PENSTOCK_RETURN_IF_ERROR(stream.copy_in(device_, host_, used_));
  PENSTOCK_RETURN_IF_ERROR(start(
      passes_, [&](const auto& kernel, std::size_t at, std::uint32_t count, std::uint32_t blocks) {
        return stream.pass(kernel.first, kernel.second, passes + at, count, blocks);
      }));
  return start(steps_,
               [&](const auto& kernel, std::size_t at, std::uint32_t count, std::uint32_t blocks) {
                 return stream.step(kernel.first, kernel.second, steps + at, count, blocks);
               });
}

}  // namespace penstock
