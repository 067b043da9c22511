// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/check_support.h"
#include "kernels/cuda/encode_launch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pass_check.h"
#include "kernels/cuda/pass_forms.h"
#include "kernels/cuda/pass_launch.h"

namespace penstock::cuda {
namespace {

// `elements` as slices of 1 Mi, all arrays zeros; returns the bytes a second of `start`, which gets
// the table, the slices and the blocks, at `bytes` an element.
template <class Start>
double bandwidth(const Form& form, std::uint32_t workers, double bytes, const Start& start) {
  constexpr std::uint64_t kElements = 64ULL << 20, kSlice = 1 << 20;
  constexpr std::uint64_t kSlices = kElements / kSlice;
  std::vector<DeviceArray> arrays;
  const auto zeroed = [&](std::uint64_t size) {
    arrays.emplace_back(size);
    must(cudaMemset(arrays.back().get(), 0, size), "cudaMemset");
    return arrays.back().get<char>();
  };
  const std::uint64_t stride = (gradient_bytes(form, kSlice) + 63) / 64 * 64;
  const char* const gradients = zeroed(stride * kSlices * workers);
  auto* const sums = reinterpret_cast<float*>(zeroed(4 * kElements));
  auto* const parameters = reinterpret_cast<float*>(zeroed(4 * kElements));
  auto* const m = reinterpret_cast<float*>(zeroed(4 * kElements));
  auto* const v = reinterpret_cast<float*>(zeroed(4 * kElements));
  auto* const norms = reinterpret_cast<NormSums*>(zeroed(kSlices * sizeof(NormSums)));
  char* const wire = zeroed(2 * kElements);
  auto* const table = reinterpret_cast<const void**>(zeroed(kSlices * workers * sizeof(void*)));
  std::vector<const void*> pointers;
  for (std::uint64_t i = 0; i < kSlices * workers; ++i) pointers.push_back(gradients + i * stride);
  must(cudaMemcpy(table, pointers.data(), pointers.size() * sizeof(void*), cudaMemcpyHostToDevice),
       "cudaMemcpy");
  std::vector<SlicePass> passes;
  for (std::uint64_t i = 0; i < kSlices; ++i) {
    SlicePass pass;
    pass.gradients = table + i * workers;
    pass.count = kSlice;
    pass.workers = workers;
    pass.first_block = static_cast<std::uint32_t>(i) * blocks_of(kSlice);
    pass.aligned = true;
    pass.codec = form.codec;
    pass.sums = sums + i * kSlice;
    pass.parameters = parameters + i * kSlice;
    pass.m = m + i * kSlice;
    pass.v = v + i * kSlice;
    pass.wire = wire + 2 * i * kSlice;
    pass.norms = norms + i;
    pass.wire_dtype = DType::kBfloat16;
    pass.kept = kept_of(kSlice);
    pass.lamb = lamb_coefficients();
    passes.push_back(pass);
  }
  const double time = start(passes, static_cast<std::uint32_t>(kSlices * blocks_of(kSlice)));
  return static_cast<double>(kElements) * bytes / time;
}

double pass_bandwidth(Pass pass, const Form& form, std::uint32_t workers, double bytes) {
  return bandwidth(form, workers, bytes,
                   [&](const std::vector<SlicePass>& passes, std::uint32_t blocks) {
                     const DeviceArray table(passes.size() * sizeof(SlicePass));
                     upload(table, passes);
                     return seconds([&] {
                       must(launch_pass(pass, form.type, table.get<SlicePass>(),
                                        static_cast<std::uint32_t>(passes.size()), blocks, nullptr),
                            "launch a pass");
                     });
                   });
}

double step_bandwidth(const Form& form, std::uint32_t workers, double bytes) {
  return bandwidth(
      form, workers, bytes, [&](const std::vector<SlicePass>& passes, std::uint32_t blocks) {
        std::vector<SliceStep> steps;
        for (const SlicePass& pass : passes) {
          SliceStep& step = steps.emplace_back();
          static_cast<SliceGradients&>(step) = pass;
          step.parameters = pass.parameters;
          step.state[0] = pass.m;
          step.state[1] = pass.v;
          step.wire = pass.wire;
          step.wire_dtype = pass.wire_dtype;
          step.coefficients = pass.lamb.moments;
        }
        const DeviceArray table(steps.size() * sizeof(SliceStep));
        upload(table, steps);
        return seconds([&] {
          must(launch_update(UpdateRule::kAdam, form.type, table.get<SliceStep>(),
                             static_cast<std::uint32_t>(steps.size()), blocks, nullptr),
               "launch a step");
        });
      });
}

// One launch over 64 Mi elements of zeros, whose codes and residuals stay zeros.
double encode_bandwidth(const Form& form, double bytes) {
  constexpr std::uint64_t kElements = 64ULL << 20;
  const DeviceArray gradient(4 * kElements), residual(4 * kElements),
      encoded(gradient_bytes(form, kElements)), table(sizeof(SliceEncode));
  must(cudaMemset(gradient.get(), 0, 4 * kElements), "cudaMemset");
  must(cudaMemset(residual.get(), 0, 4 * kElements), "cudaMemset");
  SliceEncode slice;
  slice.gradient = gradient.get<float>();
  slice.residual = residual.get<float>();
  slice.encoded = encoded.get<std::uint8_t>();
  slice.count = kElements;
  slice.aligned = true;
  slice.codec = form.codec;
  upload(table, std::vector<SliceEncode>{slice});
  const double time = seconds([&] {
    must(launch_encode(form.codec.kind, table.get<SliceEncode>(), 1, encode_blocks_of(kElements),
                       nullptr),
         "launch an encoder");
  });
  return static_cast<double>(kElements) * bytes / time;
}

}  // namespace

void print_pass_bandwidth(double copy) {
  constexpr std::uint32_t kWorkers = 8;
  const char* comma = "\n";
  const auto print = [&](const char* what, const char* form, double reached) {
    std::printf(
        "%s    {\"kernel\": \"%s\", \"gradients\": \"%s\", \"workers\": %u, "
        "\"GBps\": %.1f, \"share_of_copy\": %.3f}",
        comma, what, form, kWorkers, reached / 1e9, reached / copy);
    comma = ",\n";
  };
  std::printf(",\n  \"pass_updates\": [");
  const Form bf16 = {"bf16", GradientType::kBfloat16, {}};
  for (const Form& form : forms()) {
    const double bytes = kWorkers * static_cast<double>(gradient_bytes(form, 1 << 20)) / (1 << 20);
    if (form.codec.kind == CodecKind::kTopK)
      print("topk", form.name, pass_bandwidth(Pass::kTopK, form, kWorkers, bytes + 4));
    else if (form.type == GradientType::kEncoded)
      print("adam", form.name, step_bandwidth(form, kWorkers, bytes + 26));
  }
  for (const Form& form : forms()) {
    if (form.type != GradientType::kEncoded || form.codec.kind == CodecKind::kTopK) continue;
    // Codes with a scale read the residual twice and write it twice.
    const bool scaled = form.codec.kind <= CodecKind::kInt8;
    const double bytes = static_cast<double>(gradient_bytes(form, 1 << 20)) / (1 << 20);
    print("encode", form.name, encode_bandwidth(form, bytes + (scaled ? 20 : 12)));
  }
  print("park", "bf16", pass_bandwidth(Pass::kPark, bf16, kWorkers, 2 * kWorkers + 4));
  print("squares", "", pass_bandwidth(Pass::kSquares, bf16, kWorkers, 8));
  print("lamb_moments", "", pass_bandwidth(Pass::kLambMoments, bf16, kWorkers, 28));
  print("lamb_apply", "", pass_bandwidth(Pass::kLambApply, bf16, kWorkers, 14));
  std::printf("\n  ]");
}

}  // namespace penstock::cuda
