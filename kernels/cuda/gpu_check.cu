// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// gpu_check: does this GPU give the bits of the plain loop, and which share of its memory's
// bandwidth does the fused update reach? Prints JSON. Needs the CUDA toolkit alone.
//   gpu_check [--quick]     fewer sizes, no bandwidth: for compute-sanitizer
// Exit status: 0 equal, 1 different or failed, 77 no GPU.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/check_support.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/pass_check.h"
#include "kernels/cuda/rows_check.h"
#include "kernels/cuda/step-inl.h"

namespace penstock::cuda {
namespace {

Coefficients coefficients_of(UpdateRule rule) {
  Coefficients c;
  c.rule = rule;
  c.clip = 0.3F;
  c.l1 = rule == UpdateRule::kFtrl ? 0 : 0.01F;
  c.l2 = rule == UpdateRule::kAdamW || rule == UpdateRule::kLion ? 0 : 0.02F;
  c.decay_gain = rule == UpdateRule::kAdamW || rule == UpdateRule::kLion ? -1e-5F : 0;
  c.step_gain = -0.001F;
  c.momentum = 0.9F;
  c.beta1 = 0.9F;
  c.one_minus_beta1 = 0.1F;
  c.beta2 = 0.999F;
  c.one_minus_beta2 = 0.001F;
  c.root_gain = 1.5F;
  c.epsilon = 1e-8F;
  c.inner_epsilon = 1e-10F;
  c.inverse_rate = 10;
  c.lambda1 = 0.01F;
  c.minus_offset = -10;
  return c;
}

template <class Visitor>
void with_type(DType dtype, const Visitor& visit) {
  if (dtype == DType::kFloat32) return visit(Float32());
  if (dtype == DType::kFloat16) return visit(Float16());
  visit(Bfloat16());
}

// The plain loop over host arrays laid out as a SliceStep.
void plain_loop(const SliceStep& slice, DType gradient_dtype) {
  with_rule<float>(slice.coefficients, [&](const auto& rule) {
    constexpr int kPlanes = std::remove_reference_t<decltype(rule)>::kPlanes;
    for (std::uint64_t i = 0; i < slice.count; ++i) {
      float sum = 0;
      for (std::uint32_t w = 0; w < slice.workers; ++w)
        with_type(gradient_dtype, [&](auto type) {
          using Type = decltype(type);
          const auto* codes = static_cast<const typename Type::Element*>(slice.gradients[w]);
          sum = w == 0 ? Type::decode(codes[i]) : sum + Type::decode(codes[i]);
        });
      float state[kPlanes + 1];
      const auto plane = [&](int s) { return static_cast<float*>(slice.state[s]); };
      for (int s = 0; s < kPlanes; ++s) state[s] = plane(s)[i];
      float g = clipped(sum * slice.scale, slice.coefficients.clip);
      if (slice.coefficients.l1 != 0) g = penalized(g, slice.parameters[i], slice.coefficients.l1);
      rule(slice.parameters[i], g, state);
      for (int s = 0; s < kPlanes; ++s) plane(s)[i] = canonical(state[s]);
      slice.parameters[i] = canonical(slice.parameters[i]);
      if (slice.wire == nullptr) continue;
      with_type(slice.wire_dtype, [&](auto type) {
        using Type = decltype(type);
        static_cast<typename Type::Element*>(slice.wire)[i] = Type::encode(slice.parameters[i]);
      });
    }
  });
}

// One slice twice: on the host for plain_loop(), on the GPU for the kernel.
struct Twin {
  std::vector<std::vector<char>> host;  // gradients, parameters, state, wire
  std::vector<DeviceArray> device;
  std::vector<const void*> host_gradients;
  DeviceArray gradient_table{64 * sizeof(void*)};
  SliceStep on_host, on_device;
  std::uint32_t outputs_from = 0;

  Twin(const Coefficients& c, DType gradient, DType wire, Flavour flavour, std::uint64_t count,
       std::uint32_t workers, std::size_t shift, std::uint64_t seed) {
    on_host.coefficients = c;
    on_host.count = count;
    on_host.workers = workers;
    on_host.scale = 1.0F / 3;
    on_host.wire_dtype = wire;
    on_host.aligned = shift % 16 == 0;
    on_device = on_host;
    std::vector<const void*> device_gradients;
    for (std::uint32_t w = 0; w < workers; ++w) {
      with_type(gradient, [&](auto type) {
        using Type = decltype(type);
        add(count * sizeof(typename Type::Element), shift);
        auto* codes = reinterpret_cast<typename Type::Element*>(host.back().data());
        for (std::uint64_t i = 0; i < count; ++i)
          codes[i] = Type::encode(value_of(flavour, mix(seed)));
      });
      device_gradients.push_back(device.back().get());
    }
    for (const std::vector<char>& bytes : host) host_gradients.push_back(bytes.data());
    outputs_from = workers;
    on_host.parameters = add_floats(flavour, count, shift, seed, on_device.parameters);
    for (std::uint32_t s = 0; s < state_planes(c.rule); ++s) {
      float* device_plane = nullptr;
      float* const plane = add_floats(Flavour::kOrdinary, count, shift, seed, device_plane);
      for (std::uint64_t i = 0; i < count; ++i) plane[i] = std::abs(plane[i]);
      on_host.state[s] = plane;
      on_device.state[s] = device_plane;
    }
    add(count * dtype_bytes(wire), shift);
    std::fill(host.back().begin(), host.back().end(), '\xab');
    on_host.wire = host.back().data();
    on_device.wire = device.back().get();
    for (std::size_t i = 0; i < host.size(); ++i)
      must(cudaMemcpy(device[i].get(), host[i].data(), host[i].size(), cudaMemcpyHostToDevice),
           "cudaMemcpy");
    must(cudaMemcpy(gradient_table.get(), device_gradients.data(), workers * sizeof(void*),
                    cudaMemcpyHostToDevice),
         "cudaMemcpy");
    on_host.gradients = host_gradients.data();
    on_device.gradients = gradient_table.get<const void* const>();
  }

  void add(std::size_t bytes, std::size_t shift) {
    host.emplace_back(bytes);
    device.emplace_back(bytes, shift);
  }
  float* add_floats(Flavour flavour, std::uint64_t count, std::size_t shift, std::uint64_t& seed,
                    float*& on_gpu) {
    add(count * sizeof(float), shift);
    on_gpu = device.back().get<float>();
    auto* floats = reinterpret_cast<float*>(host.back().data());
    for (std::uint64_t i = 0; i < count; ++i) floats[i] = value_of(flavour, mix(seed));
    return floats;
  }

  std::size_t differing_bytes() const {
    std::size_t different = 0;
    for (std::size_t a = outputs_from; a < host.size(); ++a) {
      std::vector<char> back(host[a].size());
      must(cudaMemcpy(back.data(), device[a].get(), back.size(), cudaMemcpyDeviceToHost),
           "cudaMemcpy");
      for (std::size_t i = 0; i < back.size(); ++i) different += back[i] != host[a][i];
    }
    return different;
  }
};

void step_on_device(const std::vector<SliceStep>& slices, DType gradient, std::uint32_t blocks) {
  DeviceArray table(slices.size() * sizeof(SliceStep));
  must(cudaMemcpy(table.get(), slices.data(), slices.size() * sizeof(SliceStep),
                  cudaMemcpyHostToDevice),
       "cudaMemcpy");
  must(launch_update(slices[0].coefficients.rule, gradient_type(gradient), table.get<SliceStep>(),
                     static_cast<std::uint32_t>(slices.size()), blocks, nullptr),
       "launch");
  must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
}

struct Equality {
  std::uint64_t launches = 0, elements = 0, differing_bytes = 0;
};

// Slices of odd sizes and worker counts in one launch; some misaligned.
void check_equality(Equality& total, UpdateRule rule, DType gradient, DType wire, Flavour flavour,
                    bool quick) {
  const std::vector<std::uint64_t> sizes =
      quick ? std::vector<std::uint64_t>{1, 9, 2049}
            : std::vector<std::uint64_t>{1, 7, 8, 9, 2047, 2048, 2049, 4097, 65539};
  const std::uint32_t workers[] = {1, 3, 8, 0, 2, 64, 5, 1, 8};
  std::vector<Twin> twins;
  std::vector<SliceStep> steps;
  std::uint32_t blocks = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::size_t shift = i % 3 == 2 ? 4 : 0;
    twins.emplace_back(coefficients_of(rule), gradient, wire, flavour, sizes[i], workers[i], shift,
                       1 + i + 100 * static_cast<std::uint64_t>(flavour));
    twins.back().on_device.first_block = blocks;
    blocks += blocks_of(sizes[i]);
    steps.push_back(twins.back().on_device);
    total.elements += sizes[i];
  }
  for (Twin& twin : twins) {
    twin.on_host.gradients = twin.host_gradients.data();
    plain_loop(twin.on_host, gradient);
  }
  step_on_device(steps, gradient, blocks);
  for (const Twin& twin : twins) total.differing_bytes += twin.differing_bytes();
  ++total.launches;
}

double copy_bandwidth() {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  DeviceArray from(kBytes), to(kBytes);
  must(cudaMemset(from.get(), 1, kBytes), "cudaMemset");
  return 2.0 * kBytes / seconds([&] {
           must(cudaMemcpyAsync(to.get(), from.get(), kBytes, cudaMemcpyDeviceToDevice),
                "cudaMemcpyAsync");
         });
}

// Bytes a second of one launch over slices of 1 Mi elements, bf16 gradients and wire.
double update_bandwidth(UpdateRule rule, std::uint32_t workers, std::uint64_t elements) {
  constexpr std::uint64_t kSlice = 1 << 20;
  const std::uint32_t planes = state_planes(rule);
  std::vector<DeviceArray> arrays;
  const auto zeroed = [&](std::uint64_t bytes) {
    arrays.emplace_back(bytes);
    must(cudaMemset(arrays.back().get(), 0, bytes), "cudaMemset");
    return arrays.back().get<char>();
  };
  std::vector<char*> gradients(workers);
  for (char*& gradient : gradients) gradient = zeroed(2 * elements);
  auto* parameters = reinterpret_cast<float*>(zeroed(4 * elements));
  float* state[kMaxStatePlanes] = {};
  for (std::uint32_t s = 0; s < planes; ++s)
    state[s] = reinterpret_cast<float*>(zeroed(4 * elements));
  char* wire = zeroed(2 * elements);
  std::vector<SliceStep> steps;
  std::vector<const void*> pointers;
  for (std::uint64_t at = 0; at < elements; at += kSlice)
    for (char* gradient : gradients) pointers.push_back(gradient + 2 * at);
  auto* table = reinterpret_cast<const void**>(zeroed(pointers.size() * sizeof(void*)));
  must(cudaMemcpy(table, pointers.data(), pointers.size() * sizeof(void*), cudaMemcpyHostToDevice),
       "cudaMemcpy");
  std::uint32_t blocks = 0;
  for (std::uint64_t at = 0; at < elements; at += kSlice) {
    SliceStep step;
    step.gradients = table + at / kSlice * workers;
    step.parameters = parameters + at;
    for (std::uint32_t s = 0; s < planes; ++s) step.state[s] = state[s] + at;
    step.wire = wire + 2 * at;
    step.count = std::min(kSlice, elements - at);
    step.workers = workers;
    step.first_block = blocks;
    step.wire_dtype = DType::kBfloat16;
    step.aligned = true;
    step.coefficients = coefficients_of(rule);
    blocks += blocks_of(step.count);
    steps.push_back(step);
  }
  auto* slices = reinterpret_cast<SliceStep*>(zeroed(steps.size() * sizeof(SliceStep)));
  must(cudaMemcpy(slices, steps.data(), steps.size() * sizeof(SliceStep), cudaMemcpyHostToDevice),
       "cudaMemcpy");
  const double time = seconds([&] {
    must(launch_update(rule, GradientType::kBfloat16, slices,
                       static_cast<std::uint32_t>(steps.size()), blocks, nullptr),
         "launch");
  });
  return static_cast<double>(elements) * (2.0 * workers + 8 + 8.0 * planes + 2) / time;
}

int run(bool quick) {
  Equality equality;
  const DType types[] = {DType::kFloat32, DType::kFloat16, DType::kBfloat16};
  for (std::uint32_t rule = 0; rule < kUpdateRules; ++rule)
    for (DType gradient : types)
      for (DType wire : types)
        for (Flavour flavour : kFlavours)
          check_equality(equality, static_cast<UpdateRule>(rule), gradient, wire, flavour, quick);
  std::printf("  \"equality\": {\"launches\": %llu, \"elements\": %llu, \"differing_bytes\": %llu}",
              static_cast<unsigned long long>(equality.launches),
              static_cast<unsigned long long>(equality.elements),
              static_cast<unsigned long long>(equality.differing_bytes));
  const RowsEquality rows = check_rows_equality(quick);
  std::printf(",\n  \"rows\": {\"launches\": %llu, \"differing_bytes\": %llu, \"error\": \"%s\"}",
              static_cast<unsigned long long>(rows.launches),
              static_cast<unsigned long long>(rows.differing_bytes),
              rows.error == nullptr ? "" : rows.error);
  const PassEquality passes = check_passes_equality(quick);
  std::printf(",\n  \"passes\": {\"launches\": %llu, \"differing_bytes\": %llu}",
              static_cast<unsigned long long>(passes.launches),
              static_cast<unsigned long long>(passes.differing_bytes));
  const PassEquality encoders = check_encoders_equality(quick);
  std::printf(",\n  \"encoders\": {\"launches\": %llu, \"differing_bytes\": %llu}",
              static_cast<unsigned long long>(encoders.launches),
              static_cast<unsigned long long>(encoders.differing_bytes));
  if (!quick) {
    // adamw: 96 Mi parameters have 1.125 GiB of masters and state.
    constexpr std::uint64_t kElements = 96ULL << 20;
    const double copy = copy_bandwidth();
    std::printf(",\n  \"copy_GBps\": %.1f,\n  \"updates\": [", copy / 1e9);
    const char* comma = "\n";
    for (std::uint32_t rule = 0; rule < kUpdateRules; ++rule)
      for (std::uint32_t workers : {1U, 8U}) {
        const double reached = update_bandwidth(static_cast<UpdateRule>(rule), workers, kElements);
        std::printf(
            "%s    {\"rule\": %u, \"workers\": %u, \"dtype\": \"bf16\", \"GBps\": %.1f, "
            "\"share_of_copy\": %.3f}",
            comma, rule, workers, reached / 1e9, reached / copy);
        comma = ",\n";
      }
    std::printf("\n  ]");
    print_pass_bandwidth(copy);
  }
  std::printf("\n}\n");
  const bool rows_equal = rows.differing_bytes == 0 && rows.error == nullptr;
  const std::uint64_t differing =
      equality.differing_bytes + passes.differing_bytes + encoders.differing_bytes;
  return differing == 0 && rows_equal ? 0 : 1;
}

}  // namespace
}  // namespace penstock::cuda

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("{\"device\": null}\n");
    return 77;
  }
  cudaDeviceProp properties{};
  penstock::cuda::must(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  std::printf("{\n  \"device\": \"%s\",\n", properties.name);
  return penstock::cuda::run(argc > 1 && std::strcmp(argv[1], "--quick") == 0);
}
