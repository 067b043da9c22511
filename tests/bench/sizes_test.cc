// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/sizes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/base/random.h"

namespace penstock::psbench {
namespace {

using testing::ElementsAre;

std::vector<std::uint64_t> sizes(std::string_view text) {
  Result<std::vector<std::uint64_t>> result = parse_sizes(text);
  EXPECT_TRUE(result.ok()) << text << ": " << result.status().to_string();
  return result.ok() ? *result : std::vector<std::uint64_t>();
}

TEST(Sizes, ReadsNumbersWithBinarySuffixes) {
  EXPECT_EQ(parse_size("1").value(), 1U);
  EXPECT_EQ(parse_size("4096").value(), 4096U);
  EXPECT_EQ(parse_size("4K").value(), 4096U);
  EXPECT_EQ(parse_size("64M").value(), 64U << 20);
  EXPECT_EQ(parse_size("1G").value(), 1U << 30);
  EXPECT_EQ(parse_size("1024G").value(), kMaxSizeBytes);
}

TEST(Sizes, ReadsListsAndRanges) {
  EXPECT_THAT(sizes("4K:64M:x4"), ElementsAre(4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20,
                                              4 << 20, 16 << 20, 64 << 20));
  EXPECT_THAT(sizes("1M:4M:+1M"), ElementsAre(1 << 20, 2 << 20, 3 << 20, 4 << 20));
  EXPECT_THAT(sizes("1:9"), ElementsAre(1, 2, 4, 8));
  EXPECT_THAT(sizes("5:5:x2"), ElementsAre(5));
  EXPECT_THAT(sizes("4K,1M"), ElementsAre(4 << 10, 1 << 20));
  EXPECT_THAT(sizes("7,1:3:+1"), ElementsAre(7, 1, 2, 3));
  EXPECT_EQ(sizes("512G:1024G:x2").size(), 2U);
  EXPECT_THAT(sizes("1:1024G:x549755813888"), ElementsAre(1, kMaxSizeBytes / 2));
}

TEST(Sizes, RefusesNonsenseInOneSentenceThatQuotesIt) {
  for (const char* text : {"",
                           "0",
                           "0K",
                           "K",
                           "4k",
                           "4KB",
                           "-1",
                           "+1",
                           " 4K",
                           "4K ",
                           "4.5K",
                           "1T",
                           "1025G",
                           "99999999999999999999",
                           "18446744073709551615G",
                           ",",
                           "4K,",
                           ",4K",
                           "4K,,8K",
                           "a:b",
                           "4K:",
                           ":4K",
                           "4K:8K:",
                           "4K:8K:4",
                           "4K:8K:x",
                           "4K:8K:x0",
                           "4K:8K:x1",
                           "4K:8K:+",
                           "4K:8K:+0",
                           "4K:8K:x2:x2",
                           "8K:4K",
                           "0:4K",
                           "1:1M:+1",
                           "4K:8K:x-2",
                           "4K:8K:x99999999999999999999"}) {
    const Status status = parse_sizes(text).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << text;
    EXPECT_THAT(status.what(), testing::StartsWith("\"")) << text;
    EXPECT_THAT(status.what(), testing::Not(testing::HasSubstr("\n"))) << text;
  }
}

TEST(Sizes, RandomTextGivesSizesInRangeOrAnError) {
  constexpr std::string_view kAlphabet = "0123456789KMG:,x+ -";
  constexpr std::uint64_t kSeed = 20240601;
  SeededRandom random(kSeed);
  std::size_t accepted = 0;
  for (int trial = 0; trial < 100'000; ++trial) {
    std::string text;
    for (std::uint64_t length = random.below(14); length > 0; --length)
      text += kAlphabet[random.below(kAlphabet.size())];
    Result<std::vector<std::uint64_t>> result = parse_sizes(text);
    if (!result.ok()) continue;
    ++accepted;
    ASSERT_FALSE(result->empty()) << text;
    ASSERT_LE(result->size(), kMaxSizes) << text;
    for (const std::uint64_t size : *result) {
      ASSERT_GT(size, 0U) << text;
      ASSERT_LE(size, kMaxSizeBytes) << text;
    }
  }
  EXPECT_GT(accepted, 1000U) << "too few texts were sizes for this to mean anything";
}

TEST(Sizes, WritesWhatItReads) {
  for (const char* text : {"1", "1023", "1K", "64M", "3G"})
    EXPECT_EQ(format_size(parse_size(text).value()), text);
  EXPECT_EQ(format_size(1536), "1.5K");
  EXPECT_EQ(format_size(1'340'567'552), "1.2G");
}

}  // namespace
}  // namespace penstock::psbench
