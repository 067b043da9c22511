// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The GPU's sums of encoded gradients, run by the CPU in a shuffled order, give the bits of
// "scalar": what the workers' codecs write, and any bytes.

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/codec/codec_text.h"
#include "tests/kernels/cuda_support.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

const char* const kCodecs[] = {
    "fp8_e4m3:block=64",   "fp8_e5m2", "int8:block=128", "int8:block=4096",   "2bit",
    "2bit:threshold=0.01", "1bit",     "topk",           "topk:fraction=0.3", "topk:fraction=1"};

struct Subject {
  CodecSpec codec;
  Flavour flavour = Flavour::kOrdinary;
  bool encoded = true;  // by the codec, else any bytes
  std::uint32_t workers = 3;
  std::size_t offset = 0;
  std::uint64_t seed = 1;
};

// The workers' gradients of one slice.
std::vector<Array> make_gradients(const Subject& subject, std::size_t count) {
  SeededRandom random(subject.seed);
  const KernelTable& kernels = *find_kernels("scalar");
  std::vector<Array> all;
  for (std::uint32_t w = 0; w < subject.workers; ++w) {
    Array& bytes = all.emplace_back(encoded_bytes(subject.codec, count), subject.offset);
    std::vector<float> gradient(count), residual(count);
    for (float& value : gradient) value = random_float(random, subject.flavour);
    if (subject.encoded)
      kernels.codecs->encode(subject.codec, gradient.data(), residual.data(), bytes.as<void>(),
                             count);
    else
      for (std::size_t i = 0; i < encoded_bytes(subject.codec, count); ++i)
        bytes.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random.below(256));
    // Indices of topk that are mostly ascending, now and then not, or beyond the slice.
    if (!subject.encoded && subject.codec.kind == CodecKind::kTopK)
      for (std::size_t i = 0; i < codec_kept(subject.codec, count); ++i)
        bytes.as<std::uint32_t>()[i] = static_cast<std::uint32_t>(
            random.chance(900'000) ? i : random.below(count + count / 8 + 2));
  }
  return all;
}

// One step with adam of slices side by side, by "scalar" and by the GPU's bodies.
void expect_scalar_bits(const Subject& base, const std::vector<std::size_t>& counts) {
  Case c;
  c.optimizer = default_optimizer(OptimizerKind::kAdam);
  c.wire_dtype = DType::kBfloat16;
  c.scale = 1.0F / 3;
  c.offset = base.offset;
  std::vector<Arrays> expected, actual;
  std::vector<std::vector<Array>> gradients;
  std::vector<std::vector<const void*>> pointers;
  std::vector<std::vector<float>> parked;
  std::vector<const void*> parked_pointers(counts.size());
  std::vector<cuda::SliceStep> steps;
  std::vector<cuda::SlicePass> passes;
  const bool top_k = base.codec.kind == CodecKind::kTopK;
  const Coefficients coefficients = fold(c.optimizer, 3);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    c.count = counts[i];
    c.seed = base.seed + i;
    Subject subject = base;
    subject.seed = c.seed;
    subject.workers = static_cast<std::uint32_t>((base.workers + i) % 9);
    gradients.push_back(make_gradients(subject, c.count));
    auto& at = pointers.emplace_back();
    for (Array& gradient : gradients.back()) at.push_back(gradient.as<void>());
    if (at.empty()) at.push_back(nullptr);
    expected.emplace_back(c);
    actual.emplace_back(c);
    UpdateArgs args = expected.back().args();
    args.gradients = at.data();
    args.workers = static_cast<std::uint32_t>(at.size());
    args.codec = &subject.codec;
    find_kernels("scalar")->update(coefficients, args);
    args = actual.back().args();
    args.gradients = at.data();
    args.workers = subject.workers;
    cuda::SliceStep& step = steps.emplace_back(step_of(coefficients, args));
    step.codec = base.codec;
    step.aligned = base.offset % 16 == 0;
    parked.emplace_back(c.count, -7.0F);  // not zeros: the pass clears it
    cuda::SlicePass& pass = passes.emplace_back();
    static_cast<cuda::SliceGradients&>(pass) = step;
    pass.kept = codec_kept(base.codec, c.count);
    pass.sums = parked.back().data();
    if (!top_k) continue;
    parked_pointers[i] = parked.back().data();
    step.gradients = &parked_pointers[i];
    step.workers = 1;
    step.aligned = false;
  }
  if (top_k) launch_pass(cuda::Pass::kTopK, cuda::GradientType::kEncoded, passes, base.seed);
  launch_step(steps, top_k ? cuda::GradientType::kFloat32 : cuda::GradientType::kEncoded,
              base.seed);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    ASSERT_TRUE(actual[i].results() == expected[i].results())
        << codec_name(base.codec.kind) << " of " << counts[i] << " elements, offset " << base.offset
        << ", seed " << base.seed << (base.encoded ? "" : ", any bytes");
    ASSERT_TRUE(actual[i].guards_intact());
  }
}

TEST(CudaCodecs, EveryCodecAndFlavour) {
  for (const char* text : kCodecs)
    for (const Flavour flavour :
         {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits}) {
      Subject subject{*parse_codec_spec(text)};
      subject.flavour = flavour;
      expect_scalar_bits(subject, {77, 16});
    }
}

TEST(CudaCodecs, AnyBytes) {
  for (const char* text : kCodecs)
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      Subject subject{*parse_codec_spec(text)};
      subject.encoded = false;
      subject.seed = 10 * seed;
      expect_scalar_bits(subject, {1, 77, 1000, 2049});
    }
}

TEST(CudaCodecs, ManySlicesOfOddSizesAndNoWorkers) {
  for (const char* text : kCodecs)
    expect_scalar_bits({*parse_codec_spec(text)}, {1, 2047, 8, 2048, 7, 2049, 4096, 9, 4097, 5});
}

TEST(CudaCodecs, MisalignedSlicesGoOneByOne) {
  for (const char* text : kCodecs) {
    Subject subject{*parse_codec_spec(text)};
    subject.offset = 4;
    expect_scalar_bits(subject, {1, 15, 2051});
  }
}

}  // namespace
}  // namespace penstock::test
