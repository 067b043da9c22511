// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/pass_check.h"

#include <cstring>
#include <numeric>

#include "kernels/cuda/check_arena.h"
#include "kernels/cuda/host_pass.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pass_forms.h"
#include "kernels/cuda/pass_launch.h"

namespace penstock::cuda {
namespace {

// Any bytes, but for fp32 of the flavour and topk's indices, most of which ascend.
void fill_gradient(char* to, const Form& form, std::uint64_t count, Flavour flavour,
                   std::uint64_t& seed) {
  if (form.type == GradientType::kFloat32) return fill_floats(to, count, flavour, false, seed);
  for (std::size_t i = 0; i < gradient_bytes(form, count); ++i)
    to[i] = static_cast<char>(mix(seed));
  if (form.codec.kind != CodecKind::kTopK) return;
  for (std::uint64_t i = 0; i < kept_of(count); ++i) {
    const auto index =
        static_cast<std::uint32_t>(mix(seed) % 10 == 0 ? mix(seed) % (count + 5) : 3 * i);
    std::memcpy(to + 4 * i, &index, 4);
  }
}

// One launch's slices, the CPU's; the GPU's are made of them.
struct Launch {
  static constexpr std::uint32_t kMostPointers = 10;  // of a slice: gradients, then the sums

  Launch(const Form& which, Flavour flavour, std::size_t shift,
         const std::vector<std::uint64_t>& counts)
      : form(which),
        arena(arena_bytes(counts)),
        pointers(kMostPointers * counts.size()),
        norms(counts.size()) {
    std::uint64_t seed = 1 + static_cast<std::uint64_t>(flavour);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::uint64_t n = counts[i];
      SlicePass pass;
      pass.gradients = &pointers[kMostPointers * i];
      pass.count = n;
      pass.workers = static_cast<std::uint32_t>((5 * i + 3) % 9);
      pass.scale = 1.0F / 3;
      pass.aligned = shift % 16 == 0;
      pass.codec = form.codec;
      for (std::uint32_t w = 0; w < pass.workers; ++w) {
        char* const gradient = arena.add(gradient_bytes(form, n), shift);
        fill_gradient(gradient, form, n, flavour, seed);
        pointers[kMostPointers * i + w] = gradient;
      }
      const auto floats = [&](Flavour of, bool positive) {
        char* const array = arena.add(n * sizeof(float), shift);
        fill_floats(array, n, of, positive, seed);
        return reinterpret_cast<float*>(array);
      };
      pass.sums = floats(Flavour::kAnyBits, false);  // poison
      pass.parameters = floats(flavour, false);
      pass.m = floats(Flavour::kOrdinary, false);
      pass.v = floats(Flavour::kOrdinary, true);
      pass.wire = std::memset(arena.add(2 * n, shift), 0xab, 2 * n);
      pass.norms = &norms[i];
      pass.wire_dtype = DType::kBfloat16;
      pass.kept = kept_of(n);
      pass.clip = 0.4F;  // no infinity is squared
      pass.lamb = lamb_coefficients();
      passes.push_back(pass);
    }
    arena.to_device();
  }
  static std::size_t arena_bytes(const std::vector<std::uint64_t>& counts) {
    std::size_t bytes = 4096;
    for (const std::uint64_t count : counts) bytes += 16 * (5 * count + 256);
    return bytes;
  }

  // Numbers the blocks; returns the GPU's twins of these slices.
  template <class Slice, class Relocate>
  std::vector<Slice> twins(std::vector<Slice>& slices, const Relocate& relocate) {
    there.clear();
    for (const void* const pointer : pointers) there.push_back(arena.on_device(pointer));
    upload(there_table, there);
    blocks = 0;
    std::vector<Slice> made;
    for (Slice& slice : slices) {
      slice.first_block = blocks;
      blocks += blocks_of(slice.count);
      Slice& twin = made.emplace_back(slice);
      twin.gradients = there_table.get<const void* const>() + (slice.gradients - pointers.data());
      twin.parameters = arena.on_device(twin.parameters);
      twin.wire = arena.on_device(twin.wire);
      relocate(twin);
    }
    return made;
  }

  void run(Pass pass, GradientType type) {
    const std::vector<SlicePass> made = twins(passes, [&](SlicePass& twin) {
      twin.sums = arena.on_device(twin.sums);
      twin.m = arena.on_device(twin.m);
      twin.v = arena.on_device(twin.v);
      twin.norms = there_norms.get<NormSums>() + (twin.norms - norms.data());
    });
    const auto count = static_cast<std::uint32_t>(made.size());
    ThreadOrder order;
    std::iota(order.begin(), order.end(), 0U);
    for (std::uint32_t block = 0; block < pass_blocks(pass, count, blocks); ++block)
      pass_on_host(pass, type, passes.data(), count, block, order);
    const DeviceArray table(count * sizeof(SlicePass));
    upload(table, made);
    must(launch_pass(pass, type, table.get<SlicePass>(), count, blocks, nullptr), "launch a pass");
    must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  // A NaN is one whatever its bits, on which processors disagree.
  std::size_t differing_norms() const {
    std::vector<NormSums> back(norms.size());
    must(cudaMemcpy(back.data(), there_norms.get(), back.size() * sizeof(NormSums),
                    cudaMemcpyDeviceToHost),
         "cudaMemcpy");
    const auto differ = [](double a, double b) { return a != b && (a == a || b == b); };
    std::size_t different = 0;
    for (std::size_t i = 0; i < back.size(); ++i)
      different += differ(back[i].first, norms[i].first) + differ(back[i].second, norms[i].second);
    return different;
  }

  // Topk's sums as the one gradient.
  void take_sums() {
    for (SlicePass& pass : passes) {
      const std::size_t first = static_cast<std::size_t>(pass.gradients - pointers.data());
      pointers[first + kMostPointers - 1] = pass.sums;
      pass.gradients += kMostPointers - 1;
      pass.workers = 1;
    }
  }

  void step() {
    std::vector<SliceStep> steps;
    for (const SlicePass& pass : passes) {
      SliceStep step;
      static_cast<SliceGradients&>(step) = pass;
      step.parameters = pass.parameters;
      step.state[0] = pass.m;
      step.state[1] = pass.v;
      step.wire = pass.wire;
      step.wire_dtype = pass.wire_dtype;
      step.coefficients = pass.lamb.moments;
      steps.push_back(step);
    }
    const std::vector<SliceStep> made = twins(steps, [&](SliceStep& twin) {
      for (void*& plane : twin.state) plane = arena.on_device(plane);
    });
    const auto count = static_cast<std::uint32_t>(made.size());
    for (std::uint32_t block = 0; block < blocks; ++block)
      for (std::uint32_t thread = 0; thread < kThreads; ++thread)
        step_on_host(steps.data(), count, form.type, {block, thread});
    const DeviceArray table(count * sizeof(SliceStep));
    upload(table, made);
    must(
        launch_update(UpdateRule::kAdam, form.type, table.get<SliceStep>(), count, blocks, nullptr),
        "launch a step");
    must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }

  const Form form;
  Arena arena;
  std::vector<const void*> pointers, there;
  std::vector<NormSums> norms;
  DeviceArray there_norms{64 * sizeof(NormSums)};
  DeviceArray there_table{kMostPointers * 64 * sizeof(void*)};
  std::vector<SlicePass> passes;
  std::uint32_t blocks = 0;
};

void check_form(PassEquality& total, const Form& form, Flavour flavour, std::size_t shift,
                const std::vector<std::uint64_t>& counts) {
  GradientType type = form.type;
  Launch launch(form, flavour, shift, counts);
  if (form.codec.kind == CodecKind::kTopK) {
    launch.run(Pass::kTopK, type);
    launch.take_sums();
    type = GradientType::kFloat32;
  } else {
    launch.step();
  }
  for (const Pass pass :
       {Pass::kPark, Pass::kSquares, Pass::kLambMoments, Pass::kSquares, Pass::kLambApply}) {
    launch.run(pass, type);
    if (pass == Pass::kSquares) total.differing_bytes += launch.differing_norms();
  }
  total.launches += 6;
  total.differing_bytes += launch.arena.differing_bytes();
}

}  // namespace

PassEquality check_passes_equality(bool quick) {
  PassEquality total;
  const std::vector<std::uint64_t> counts =
      quick ? std::vector<std::uint64_t>{1, 9, 2049}
            : std::vector<std::uint64_t>{1, 7, 8, 9, 2047, 2048, 2049, 4097, 65539};
  for (const Form& form : forms())
    for (const Flavour flavour : kFlavours)
      for (const std::size_t shift : {0, 4}) check_form(total, form, flavour, shift, counts);
  return total;
}

}  // namespace penstock::cuda
