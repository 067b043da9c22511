// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The codecs: their exact bytes, what they keep back, and that every target gives the bits of
// "scalar".

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/codec/codec_text.h"
#include "kernels/math/fp8.h"
#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::vector<CodecSpec> all_codecs() {
  std::vector<CodecSpec> specs;
  for (const char* text :
       {"fp8_e4m3:block=64", "fp8_e4m3:block=128", "fp8_e5m2", "fp8_e5m2:block=4096", "int8",
        "int8:block=64", "int8:block=2048", "2bit", "2bit:threshold=0.01", "1bit",
        "1bit:threshold=0", "topk", "topk:fraction=0.3", "topk:fraction=1"})
    specs.push_back(*parse_codec_spec(text));
  return specs;
}

CodecSpec codec(const char* text) { return *parse_codec_spec(text); }

// One slice on a worker, encoded by one target.
struct Encoder {
  Encoder(const KernelTable& which, const CodecSpec& how, std::size_t count, std::size_t offset = 0)
      : kernels(which),
        spec(how),
        residual(count * sizeof(float), offset),
        encoded(encoded_bytes(how, count), offset),
        values(count) {}

  void encode(const std::vector<float>& gradient) {
    kernels.codecs->encode(spec, gradient.data(), residual.as<float>(), encoded.as<void>(),
                           values.size());
    kernels.codecs->decode(spec, encoded.as<void>(), values.data(), values.size());
  }

  const KernelTable& kernels;
  CodecSpec spec;
  Array residual, encoded;
  std::vector<float> values;  // decoded
};

std::vector<float> random_floats(std::size_t count, Flavour flavour, std::uint64_t seed) {
  SeededRandom random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = random_float(random, flavour);
  return values;
}

// ---- exact bytes --------------------------------------------------------------------------------

void expect_bytes(Encoder& encoder, const Bytes& bytes) {
  const auto* got = encoder.encoded.as<std::uint8_t>();
  EXPECT_EQ(Bytes(got, got + encoder.encoded.bytes().size()), bytes) << encoder.kernels.target;
}

TEST(Codec, TwoBitGivesTheBytesOfMxnet) {
  for (const KernelTable* kernels : available_kernels()) {
    Encoder encoder(*kernels, codec("2bit:threshold=0.5"), 6);
    encoder.encode({0.6F, -0.7F, 0.2F, 0.5F, -0.5F, 0});
    expect_bytes(encoder, {0xe3, 0x80});
    EXPECT_EQ(encoder.values, (std::vector<float>{0.5F, -0.5F, 0, 0.5F, -0.5F, 0}));
    const std::vector<float> left = {0.6F - 0.5F, -0.7F + 0.5F, 0.2F, 0, 0, 0};
    const auto* residual = encoder.residual.as<float>();
    EXPECT_EQ(std::vector<float>(residual, residual + 6), left);
  }
}

TEST(Codec, OneBitGivesTheBytesOfMxnet) {
  for (const KernelTable* kernels : available_kernels()) {
    Encoder encoder(*kernels, codec("1bit:threshold=0.5"), 10);
    // Above the threshold, not at it; the magnitude is 1 whatever the threshold.
    encoder.encode({0.6F, 0.5F, -3, 2, 0, 0.75F, 1, -1, 0.25F, 4});
    expect_bytes(encoder, {0b1001'0110, 0b0100'0000});
    EXPECT_EQ(encoder.values, (std::vector<float>{1, -1, -1, 1, -1, 1, 1, -1, -1, 1}));
    const std::vector<float> left = {0.6F - 1, 1.5F, -2, 1, 1, -0.25F, 0, 0, 1.25F, 3};
    const auto* residual = encoder.residual.as<float>();
    EXPECT_EQ(std::vector<float>(residual, residual + 10), left);
  }
}

TEST(Codec, Int8ScalesByTheLargestOfEachBlock) {
  for (const KernelTable* kernels : available_kernels()) {
    Encoder encoder(*kernels, codec("int8:block=64"), 66);
    std::vector<float> gradient(66);
    gradient[0] = -254;
    gradient[1] = 3;  // 1.5: to even, 2
    gradient[2] = 5;  // 2.5: to even, 2
    gradient[65] = 127;
    encoder.encode(gradient);
    Bytes expected(8 + 66);
    expected[3] = 0x40;  // 2.0, little-endian
    expected[6] = 0x80, expected[7] = 0x3f;
    expected[8] = 0x81, expected[9] = 2, expected[10] = 2, expected[73] = 127;
    expect_bytes(encoder, expected);
    EXPECT_EQ(encoder.values[0], -254);
    EXPECT_EQ(encoder.values[1], 4);
    EXPECT_EQ(encoder.residual.as<float>()[1], -1);
  }
}

TEST(Codec, Fp8ScalesByAPowerOfTwo) {
  for (const KernelTable* kernels : available_kernels()) {
    Encoder encoder(*kernels, codec("fp8_e4m3:block=64"), 64);
    std::vector<float> gradient(64);
    gradient[0] = 7;         // 1.75·2²: the scale is 2⁻⁶, this is 448 of it
    gradient[1] = -0.25F;    // 16
    gradient[2] = 0x1p-15F;  // the smallest code, 2⁻⁹
    gradient[3] = 0x1p-16F;  // half of it: to even, 0
    encoder.encode(gradient);
    const auto* bytes = encoder.encoded.as<std::uint8_t>();
    EXPECT_EQ(encoder.encoded.as<float>()[0], 0x1p-6F);
    EXPECT_EQ(Bytes(bytes + 4, bytes + 8), (Bytes{0x7e, 0x80 | 0x58, 0x01, 0x00}));
    EXPECT_EQ(encoder.residual.as<float>()[3], 0x1p-16F);
    // A little more than 1.75 takes the next scale.
    gradient[0] = 7.0001F;
    gradient[3] = 0;
    Encoder next(*kernels, codec("fp8_e4m3:block=64"), 64);
    next.encode(gradient);
    EXPECT_EQ(next.encoded.as<float>()[0], 0x1p-5F);
  }
}

TEST(Codec, TopKSendsTheLargestInOrderAndOfEqualOnesTheFirst) {
  for (const KernelTable* kernels : available_kernels()) {
    Encoder encoder(*kernels, codec("topk:fraction=0.5"), 7);  // 4 of 7
    encoder.encode({1, -2, 0.5F, 2, 1, -1, 3});
    const auto* indices = encoder.encoded.as<std::uint32_t>();
    const auto* values = encoder.encoded.as<float>() + 4;
    EXPECT_EQ(std::vector<std::uint32_t>(indices, indices + 4),
              (std::vector<std::uint32_t>{0, 1, 3, 6}));
    EXPECT_EQ(std::vector<float>(values, values + 4), (std::vector<float>{1, -2, 2, 3}));
    encoder.encode(std::vector<float>(7));  // what was kept back comes now
    EXPECT_EQ(encoder.values, (std::vector<float>{0, 0, 0.5F, 0, 1, -1, 0}));
  }
}

// ---- fp8 ----------------------------------------------------------------------------------------

template <class Decode, class Encode>
void expect_nearest_code(const Decode& decode, const Encode& encode, int codes) {
  for (int code = 0; code < codes; ++code) {
    const auto bits = static_cast<std::uint8_t>(code);
    EXPECT_EQ(encode(decode(bits)), bits);
    if (code + 1 == codes) break;
    const float low = decode(bits), high = decode(static_cast<std::uint8_t>(code + 1));
    const float middle = low + (high - low) / 2;  // exact
    const auto even = static_cast<std::uint8_t>(code + code % 2);
    EXPECT_EQ(encode(middle), even) << code;
    EXPECT_EQ(encode(std::nextafter(middle, 0.0F)), bits) << code;
    EXPECT_EQ(encode(std::nextafter(middle, 1e30F)), bits + 1) << code;
    EXPECT_EQ(encode(-middle), even | 0x80) << code;
  }
}

TEST(Fp8, RoundsToTheNearestCodeAndSaturates) {
  expect_nearest_code(e4m3_to_float, float_to_e4m3, 0x7f);
  expect_nearest_code(e5m2_to_float, float_to_e5m2, 0x7c);
  EXPECT_EQ(e4m3_to_float(0x7e), 448);
  EXPECT_EQ(e4m3_to_float(0x01), 0x1p-9F);
  EXPECT_EQ(e5m2_to_float(0x7b), 57344);
  EXPECT_EQ(e5m2_to_float(0x01), 0x1p-16F);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(float_to_e4m3(1e9F), 0x7e);
  EXPECT_EQ(float_to_e4m3(-infinity), 0xfe);
  EXPECT_EQ(float_to_e5m2(infinity), 0x7b);
  EXPECT_EQ(float_to_e5m2(std::numeric_limits<float>::quiet_NaN()), 0x7f);
  EXPECT_TRUE(std::isnan(e4m3_to_float(0xff)));
}

// ---- error feedback -----------------------------------------------------------------------------

TEST(Codec, WhatWasSentAndWhatIsKeptBackAddUpToTheGradients) {
  constexpr std::size_t kCount = 1500;
  for (const CodecSpec& spec : all_codecs()) {
    Encoder encoder(best_kernels(), spec, kCount);
    std::vector<double> pushed(kCount), arrived(kCount);
    for (std::uint64_t round = 1; round <= 20; ++round) {
      const std::vector<float> gradient = random_floats(kCount, Flavour::kOrdinary, round);
      encoder.encode(gradient);
      for (std::size_t i = 0; i < kCount; ++i) {
        pushed[i] += static_cast<double>(gradient[i]);
        arrived[i] += static_cast<double>(encoder.values[i]);
      }
    }
    for (std::size_t i = 0; i < kCount; ++i)
      ASSERT_NEAR(arrived[i] + static_cast<double>(encoder.residual.as<float>()[i]), pushed[i],
                  2e-5)
          << codec_text(spec) << " element " << i;
  }
}

TEST(Codec, BlocksThatHoldNoNumberArriveAsNanAndStartAgain) {
  for (const KernelTable* kernels : available_kernels())
    for (const char* text : {"int8:block=64", "fp8_e4m3:block=64", "fp8_e5m2:block=64"})
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
        Encoder encoder(*kernels, codec(text), 130);
        std::vector<float> gradient(130, 1.0F);
        gradient[70] = bad;
        encoder.encode(gradient);
        for (std::size_t i = 0; i < 130; ++i)
          ASSERT_EQ(std::isnan(encoder.values[i]), i >= 64 && i < 128) << text << " " << i;
        gradient[70] = 1;
        encoder.encode(gradient);
        EXPECT_NEAR(encoder.values[70], 1, 0.1) << text;
      }
}

TEST(Codec, TinyBlocksStayInTheResidual) {
  for (const KernelTable* kernels : available_kernels())
    for (const char* text : {"int8", "fp8_e4m3", "fp8_e5m2"}) {
      Encoder encoder(*kernels, codec(text), 70);
      encoder.encode(std::vector<float>(70, 0x1p-120F));
      EXPECT_EQ(encoder.values, std::vector<float>(70)) << text;
      EXPECT_EQ(encoder.residual.as<float>()[69], 0x1p-120F) << text;
    }
}

// ---- equal bits ---------------------------------------------------------------------------------

void expect_equal_encoders(const CodecSpec& spec, std::size_t count, Flavour flavour,
                           std::size_t offset, std::uint64_t seed) {
  Encoder expected(*find_kernels("scalar"), spec, count);
  std::vector<std::vector<float>> gradients;
  for (std::uint64_t round = 0; round < 3; ++round)
    gradients.push_back(random_floats(count, flavour, seed + round));
  for (const auto& gradient : gradients) expected.encode(gradient);
  for (const KernelTable* kernels : available_kernels()) {
    Encoder actual(*kernels, spec, count, offset);
    for (const auto& gradient : gradients) actual.encode(gradient);
    const std::string what = fmt::format("{} {} count={} flavour={} seed={}", kernels->target,
                                         codec_text(spec), count, static_cast<int>(flavour), seed);
    ASSERT_TRUE(actual.encoded.bytes() == expected.encoded.bytes()) << what;
    ASSERT_TRUE(actual.residual.bytes() == expected.residual.bytes()) << what;
    ASSERT_EQ(std::memcmp(actual.values.data(), expected.values.data(), count * sizeof(float)), 0)
        << what;
    ASSERT_TRUE(actual.encoded.guards_intact() && actual.residual.guards_intact()) << what;
  }
}

TEST(Codec, EveryTargetEncodesTheBitsOfScalar) {
  for (const CodecSpec& spec : all_codecs()) {
    for (std::size_t count = 1; count <= 140; ++count)
      expect_equal_encoders(spec, count, static_cast<Flavour>(count % 4), 0, count);
    for (const Flavour flavour :
         {Flavour::kOrdinary, Flavour::kSubnormal, Flavour::kExtreme, Flavour::kAnyBits})
      for (const std::size_t count : {1023U, 1024U, 4097U, 9000U})
        expect_equal_encoders(spec, count, flavour, 4, count);
  }
}

// The fused update of encoded gradients is the update of the decoded ones; hostile bytes give
// every target the same.
void expect_fused_sum(const Case& c, const CodecSpec& spec, bool hostile) {
  SeededRandom random(c.seed);
  std::vector<Array> encoded;
  std::vector<std::vector<float>> decoded;
  std::vector<const void*> pointers, plain;
  for (std::uint32_t w = 0; w < c.workers; ++w) {
    Encoder encoder(*find_kernels("scalar"), spec, c.count, c.offset);
    encoder.encode(random_floats(c.count, c.flavour, c.seed + w));
    if (hostile) {
      const std::size_t bytes = encoder.encoded.bytes().size();
      for (std::size_t i = 0; i < bytes; ++i)
        if (random.chance(300'000))
          encoder.encoded.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(random.next());
      encoder.kernels.codecs->decode(spec, encoder.encoded.as<void>(), encoder.values.data(),
                                     c.count);
    }
    encoded.push_back(encoder.encoded);
    decoded.push_back(encoder.values);
  }
  for (std::uint32_t w = 0; w < c.workers; ++w) {
    const bool absent = random.chance(c.absent_per_million);
    pointers.push_back(absent ? nullptr : encoded[w].as<void>());
    plain.push_back(absent ? nullptr : decoded[w].data());
  }
  Arrays expected(c);
  UpdateArgs args = expected.args();
  // A code that is not from our encoder times its scale need not be exact: decoded, it is rounded.
  args.gradients = hostile ? pointers.data() : plain.data();
  if (hostile) args.codec = &spec;
  find_kernels("scalar")->update(fold(c.optimizer, 1), args);
  for (const KernelTable* kernels : available_kernels()) {
    Arrays actual(c);
    args = actual.args();
    args.gradients = pointers.data();
    args.codec = &spec;
    kernels->update(fold(c.optimizer, 1), args);
    ASSERT_TRUE(actual.results() == expected.results())
        << kernels->target << " " << codec_text(spec) << " hostile=" << hostile << " "
        << describe(c);
    ASSERT_TRUE(actual.guards_intact()) << kernels->target << " " << describe(c);
  }
}

TEST(Codec, IsDecodedInsideTheSum) {
  for (const CodecSpec& spec : all_codecs())
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
      SeededRandom random(seed * 77);
      Case c;
      c.optimizer = optimizer_variants()[random.below(optimizer_variants().size())];
      c.workers = seed % 10 == 0 ? 64 : 1 + static_cast<std::uint32_t>(random.below(9));
      c.count = 1 + random.below(seed % 5 == 0 ? 5000 : 300);
      c.wire_dtype = static_cast<DType>(seed % 3);
      c.has_wire = seed % 7 != 0;
      c.stream_wire = seed % 2 == 0;
      c.flavour = static_cast<Flavour>(random.below(4));
      c.offset = 4 * random.below(16);
      c.absent_per_million = seed % 6 == 0 ? 1'000'000 : 200'000;
      c.scale = 1.0F / 3;
      c.seed = seed;
      expect_fused_sum(c, spec, seed % 3 == 0);
    }
}

TEST(Codec, SkipsEntriesOfTopKThatMakeNoSense) {
  const CodecSpec spec = codec("topk:fraction=0.5");
  struct {
    std::uint32_t indices[5];
    float values[5];
  } const encoded = {{3, 3, 1, 10, 7}, {1, 2, 4, 8, 16}};  // twice, backwards, past the end
  for (const KernelTable* kernels : available_kernels()) {
    std::vector<float> values(10, -1.0F);
    kernels->codecs->decode(spec, &encoded, values.data(), 10);
    EXPECT_EQ(values, (std::vector<float>{0, 0, 0, 1, 0, 0, 0, 16, 0, 0}));
  }
}

// ---- words --------------------------------------------------------------------------------------

TEST(Codec, CountsItsBytes) {
  EXPECT_EQ(encoded_bytes(codec("2bit"), 1), 1U);
  EXPECT_EQ(encoded_bytes(codec("2bit"), 65), 17U);
  EXPECT_EQ(encoded_bytes(codec("1bit"), 65), 9U);
  EXPECT_EQ(encoded_bytes(codec("int8"), 1), 5U);
  EXPECT_EQ(encoded_bytes(codec("int8:block=64"), 129), 12U + 129U);
  EXPECT_EQ(encoded_bytes(codec("topk"), 1), 8U);
  EXPECT_EQ(encoded_bytes(codec("topk"), 101), 16U);
  EXPECT_EQ(encoded_bytes(codec("topk:fraction=1"), 5), 40U);
  EXPECT_EQ(encoded_bytes(codec("none"), 5), 20U);
}

TEST(Codec, ReadsWhatItWrites) {
  for (const CodecSpec& spec : all_codecs()) EXPECT_EQ(*parse_codec_spec(codec_text(spec)), spec);
  EXPECT_EQ(codec("none"), CodecSpec());
  EXPECT_EQ(codec_text(codec("fp8_e4m3:block=128")), "fp8_e4m3:block=128");
}

TEST(Codec, SaysWhatIsWrong) {
  const auto error = [](const char* text) { return parse_codec_spec(text).status().what(); };
  EXPECT_EQ(error("2bits"), "no codec is called '2bits'");
  EXPECT_EQ(error("2bit:0.5"), "'0.5' in codec '2bit:0.5' has no '='");
  EXPECT_EQ(error("2bit:block=64"), "codec 2bit has no field 'block'");
  EXPECT_EQ(error("none:block=64"), "codec none has no field 'block'");
  EXPECT_EQ(error("2bit:threshold=half"), "codec threshold is 'half', but must be a number");
  EXPECT_EQ(error("2bit:threshold=0"),
            "codec threshold is 0, but must be finite and above 0 (1bit takes 0, too)");
  EXPECT_EQ(error("1bit:threshold=-1"),
            "codec threshold is -1, but must be finite and above 0 (1bit takes 0, too)");
  EXPECT_EQ(error("2bit:threshold=nan"),
            "codec threshold is nan, but must be finite and above 0 (1bit takes 0, too)");
  EXPECT_EQ(error("int8:block=100"),
            "codec block is 100, but must be a power of two from 64 to 4096");
  EXPECT_EQ(error("int8:block=-64"), "codec block is '-64', but must be a whole number");
  EXPECT_EQ(error("topk:fraction=0"), "codec fraction is 0, but must be above 0 and at most 1");
  EXPECT_EQ(error("topk:fraction=1.5"), "codec fraction is 1.5, but must be above 0 and at most 1");
  EXPECT_EQ(validate(CodecSpec{.kind = static_cast<CodecKind>(7)}).what(),
            "codec kind is 7, but must be a known one");
}

}  // namespace
}  // namespace penstock::test
