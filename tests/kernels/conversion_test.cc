// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// encode and decode of every target against the definitions of the formats.

#include <gtest/gtest.h>

#include <limits>

#include "tests/kernels/support.h"

namespace penstock::test {
namespace {

// The value of a 16-bit code from the formats' definition, in double; NaN for NaN codes.
double value_of(std::uint16_t code, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (code & 0x7fff) >> fraction_bits;
  const int fraction = code & ((1 << fraction_bits) - 1);
  const double sign = code & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1)
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

struct Format {
  DType dtype;
  int exponent_bits;
};
constexpr Format kFormats[] = {{DType::kFloat16, 5}, {DType::kBfloat16, 8}};

std::vector<std::uint16_t> encode(const KernelTable& kernels, DType dtype,
                                  const std::vector<float>& values) {
  std::vector<std::uint16_t> codes(values.size());
  kernels.encode(values.data(), codes.data(), dtype, values.size());
  return codes;
}

TEST(Conversion, DecodesEveryCodeExactly) {
  std::vector<std::uint16_t> codes(65536);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint16_t>(i);
  for (const KernelTable* kernels : available_kernels())
    for (const Format& format : kFormats) {
      std::vector<float> values(codes.size());
      kernels->decode(codes.data(), format.dtype, values.data(), values.size());
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const double expected = value_of(codes[i], format.exponent_bits);
        if (std::isnan(expected)) {
          ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), 0x7fc0'0000U);
        } else {
          ASSERT_EQ(static_cast<double>(values[i]), expected) << kernels->target << " code " << i;
          ASSERT_EQ(std::signbit(values[i]), i >= 0x8000);
        }
      }
    }
}

TEST(Conversion, EveryCodeSurvivesTheWayThereAndBack) {
  for (const KernelTable* kernels : available_kernels())
    for (const Format& format : kFormats) {
      std::vector<float> values(65536);
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] =
            static_cast<float>(value_of(static_cast<std::uint16_t>(i), format.exponent_bits));
      const std::vector<std::uint16_t> codes = encode(*kernels, format.dtype, values);
      const std::uint16_t nan = format.dtype == DType::kFloat16 ? 0x7e00 : 0x7fc0;
      for (std::size_t i = 0; i < codes.size(); ++i)
        ASSERT_EQ(codes[i], std::isnan(values[i]) ? nan : i) << kernels->target;
    }
}

// Between two neighbouring codes: below the middle down, above it up, on it to the even code.
TEST(Conversion, RoundsToNearestEven) {
  for (const KernelTable* kernels : available_kernels())
    for (const Format& format : kFormats) {
      const std::uint16_t infinity = format.dtype == DType::kFloat16 ? 0x7c00 : 0x7f80;
      std::vector<float> values;
      std::vector<std::uint16_t> expected;
      for (std::uint16_t low = 0; low < infinity; ++low) {
        const auto high = static_cast<std::uint16_t>(low + 1);
        const double from = value_of(low, format.exponent_bits);
        // The step that would lead past the largest finite code has the length of the one before.
        const double step = high == infinity ? from - value_of(static_cast<std::uint16_t>(low - 1),
                                                               format.exponent_bits)
                                             : value_of(high, format.exponent_bits) - from;
        const auto middle = static_cast<float>(from + step / 2);
        ASSERT_EQ(static_cast<double>(middle), from + step / 2);
        const std::uint16_t even = low % 2 == 0 ? low : high;
        for (float sign : {1.0F, -1.0F}) {
          const auto with_sign = [&](std::uint16_t code) {
            return static_cast<std::uint16_t>(sign < 0 ? code | 0x8000 : code);
          };
          values.push_back(sign * middle);
          expected.push_back(with_sign(even));
          values.push_back(sign * std::nextafter(middle, 0.0F));
          expected.push_back(with_sign(low));
          values.push_back(sign * std::nextafter(middle, std::numeric_limits<float>::infinity()));
          expected.push_back(with_sign(high));
        }
      }
      const std::vector<std::uint16_t> codes = encode(*kernels, format.dtype, values);
      for (std::size_t i = 0; i < codes.size(); ++i)
        ASSERT_EQ(codes[i], expected[i])
            << kernels->target << " " << dtype_name(format.dtype) << " value " << values[i];
    }
}

TEST(Conversion, AllTargetsEncodeRandomBitsAlike) {
  SeededRandom random(42);
  std::vector<float> values(200'003);
  for (float& value : values) value = random_float(random, Flavour::kAnyBits);
  for (DType dtype : {DType::kFloat16, DType::kBfloat16}) {
    const std::vector<std::uint16_t> expected = encode(*find_kernels("scalar"), dtype, values);
    for (const KernelTable* kernels : available_kernels())
      EXPECT_EQ(encode(*kernels, dtype, values), expected) << kernels->target;
  }
}

TEST(Conversion, Float32WireIsACopyWithOneNan) {
  const float nan = std::bit_cast<float>(0xffc0'1234U);
  const std::vector<float> values = {1.5F, -0.0F, 0x1p-149F, nan, INFINITY};
  for (const KernelTable* kernels : available_kernels()) {
    std::vector<float> wire(values.size());
    kernels->encode(values.data(), wire.data(), DType::kFloat32, values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(std::bit_cast<std::uint32_t>(wire[i]),
                i == 3 ? 0x7fc0'0000U : std::bit_cast<std::uint32_t>(values[i]));
  }
}

TEST(DType, NamesParseBack) {
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBfloat16})
    EXPECT_EQ(parse_dtype(dtype_name(dtype)), dtype);
  EXPECT_FALSE(parse_dtype("float").has_value());
  EXPECT_TRUE(is_dtype(2));
  EXPECT_FALSE(is_dtype(3));
}

}  // namespace
}  // namespace penstock::test
