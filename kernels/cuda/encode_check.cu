// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "kernels/cuda/check_arena.h"
#include "kernels/cuda/encode_launch.h"
#include "kernels/cuda/host_encode.h"
#include "kernels/cuda/pass_check.h"
#include "kernels/cuda/pass_forms.h"

namespace penstock::cuda {
namespace {

// Two rounds of these slices in one launch each, so that residuals matter.
void check_form(PassEquality& total, const Form& form, Flavour flavour, std::size_t shift,
                const std::vector<std::uint64_t>& counts) {
  std::size_t bytes = 4096;
  for (const std::uint64_t n : counts) bytes += 8 * n + gradient_bytes(form, n) + 512;
  Arena arena(bytes);
  std::uint64_t seed = 1 + static_cast<std::uint64_t>(flavour);
  std::vector<SliceEncode> here, there;
  std::uint32_t blocks = 0;
  for (const std::uint64_t n : counts) {
    char* const gradient = arena.add(n * sizeof(float), shift);
    char* const residual = arena.add(n * sizeof(float), shift);
    fill_floats(gradient, n, flavour, false, seed);
    fill_floats(residual, n, Flavour::kOrdinary, false, seed);
    char* const encoded = arena.add(gradient_bytes(form, n), shift);
    std::memset(encoded, 0xab, gradient_bytes(form, n));
    SliceEncode& slice = here.emplace_back();
    slice.gradient = reinterpret_cast<const float*>(gradient);
    slice.residual = reinterpret_cast<float*>(residual);
    slice.encoded = reinterpret_cast<std::uint8_t*>(encoded);
    slice.count = n;
    slice.first_block = blocks;
    slice.aligned = shift % 16 == 0;
    slice.codec = form.codec;
    slice.kept = kept_of(n);
    blocks += encode_blocks_of(n);
    SliceEncode& twin = there.emplace_back(slice);
    twin.gradient = arena.on_device(slice.gradient);
    twin.residual = arena.on_device(slice.residual);
    twin.encoded = arena.on_device(slice.encoded);
  }
  arena.to_device();
  const auto count = static_cast<std::uint32_t>(here.size());
  const DeviceArray table(count * sizeof(SliceEncode));
  upload(table, there);
  ThreadOrder order;
  std::iota(order.begin(), order.end(), 0U);
  for (int round = 0; round < 2; ++round) {
    for (std::uint32_t block = 0; block < encode_launch_blocks(form.codec.kind, count, blocks);
         ++block)
      encode_on_host(here.data(), count, block, order);
    must(launch_encode(form.codec.kind, table.get<SliceEncode>(), count, blocks, nullptr),
         "launch an encoder");
    must(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    ++total.launches;
  }
  total.differing_bytes += arena.differing_bytes();
}

}  // namespace

PassEquality check_encoders_equality(bool quick) {
  PassEquality total;
  const std::vector<std::uint64_t> counts =
      quick ? std::vector<std::uint64_t>{1, 9, 4097}
            : std::vector<std::uint64_t>{1, 7, 8, 63, 64, 2049, 4095, 4096, 4097, 65539};
  for (const Form& form : forms())
    for (const Flavour flavour : kFlavours)
      for (const std::size_t shift : {0, 4})
        if (form.type == GradientType::kEncoded) check_form(total, form, flavour, shift, counts);
  return total;
}

}  // namespace penstock::cuda
