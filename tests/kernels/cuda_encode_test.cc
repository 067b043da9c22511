// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The GPU's encoders, run by the CPU in a shuffled order, give the bytes and residuals of "scalar".

#include <gtest/gtest.h>

#include "kernels/codec/codec_text.h"
#include "kernels/cuda/host_encode.h"
#include "tests/kernels/cuda_support.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

const char* const kCodecs[] = {"fp8_e4m3:block=64",
                               "fp8_e4m3:block=4096",
                               "fp8_e5m2",
                               "int8:block=128",
                               "int8:block=2048",
                               "2bit",
                               "2bit:threshold=0.01",
                               "1bit",
                               "1bit:threshold=0",
                               "topk",
                               "topk:fraction=0.3",
                               "topk:fraction=1"};

void launch_encode(std::vector<cuda::SliceEncode>& slices, std::uint64_t seed) {
  std::uint32_t blocks = 0;
  for (cuda::SliceEncode& slice : slices) {
    slice.first_block = blocks;
    blocks += cuda::encode_blocks_of(slice.count);
  }
  const auto count = static_cast<std::uint32_t>(slices.size());
  std::vector<std::uint32_t> all(cuda::encode_launch_blocks(slices[0].codec.kind, count, blocks));
  std::iota(all.begin(), all.end(), 0U);
  cuda::ThreadOrder order;
  std::iota(order.begin(), order.end(), 0U);
  SeededRandom random(seed);
  shuffle(all, random);
  for (const std::uint32_t block : all) {
    shuffle(order, random);
    cuda::encode_on_host(slices.data(), count, block, order);
  }
}

// Three rounds, so that residuals matter, of slices side by side.
void expect_scalar_bits(const char* text, Flavour flavour, const std::vector<std::size_t>& counts,
                        std::size_t offset) {
  const CodecSpec codec = *parse_codec_spec(text);
  SeededRandom random(7);
  std::vector<Array> gradients, residuals, encoded, expected_residuals, expected;
  for (const std::size_t count : counts) {
    for (auto* arrays : {&gradients, &residuals, &expected_residuals})
      arrays->emplace_back(count * sizeof(float), offset);
    for (auto* arrays : {&encoded, &expected}) {
      Array& bytes = arrays->emplace_back(encoded_bytes(codec, count), offset);
      std::memset(bytes.as<void>(), 0xab, encoded_bytes(codec, count));
    }
    std::fill_n(residuals.back().as<float>(), count, 0.0F);
    std::fill_n(expected_residuals.back().as<float>(), count, 0.0F);
  }
  for (std::uint64_t round = 1; round <= 3; ++round) {
    std::vector<cuda::SliceEncode> slices;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      for (std::size_t e = 0; e < counts[i]; ++e)
        gradients[i].as<float>()[e] = random_float(random, flavour);
      find_kernels("scalar")->codecs->encode(codec, gradients[i].as<float>(),
                                             expected_residuals[i].as<float>(),
                                             expected[i].as<void>(), counts[i]);
      cuda::SliceEncode& slice = slices.emplace_back();
      slice.gradient = gradients[i].as<float>();
      slice.residual = residuals[i].as<float>();
      slice.encoded = encoded[i].as<std::uint8_t>();
      slice.count = counts[i];
      slice.aligned = offset % 16 == 0;
      slice.codec = codec;
      slice.kept = codec_kept(codec, counts[i]);
    }
    launch_encode(slices, round);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      ASSERT_TRUE(encoded[i].bytes() == expected[i].bytes())
          << text << ", " << counts[i] << " elements, round " << round;
      ASSERT_TRUE(residuals[i].bytes() == expected_residuals[i].bytes())
          << text << ", residual of " << counts[i] << " elements, round " << round;
      ASSERT_TRUE(encoded[i].guards_intact() && residuals[i].guards_intact());
    }
  }
}

TEST(CudaEncode, EveryCodecFlavourAndOddSize) {
  for (const char* text : kCodecs)
    for (const Flavour flavour :
         {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits})
      expect_scalar_bits(text, flavour, {1, 5, 63, 64, 65, 2049, 4095, 4096, 4097, 9001}, 0);
}

TEST(CudaEncode, MisalignedSlicesGoOneByOne) {
  for (const char* text : kCodecs)
    for (const std::size_t offset : {4U, 12U})
      expect_scalar_bits(text, Flavour::kAnyBits, {1, 15, 64, 4100}, offset);
}

}  // namespace
}  // namespace penstock::test
