// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/free_ranges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "transport/base/random.h"

namespace penstock::test {
namespace {

// The same, one character for each byte: '.' is free.
class Plain {
 public:
  explicit Plain(std::size_t bytes) : bytes_(bytes, '.') {}
  std::optional<std::uint64_t> take(std::size_t bytes) {
    const std::size_t at = bytes_.find(std::string(bytes, '.'));
    if (at == std::string::npos) return {};
    bytes_.replace(at, bytes, bytes, '#');
    return at;
  }
  void give(std::size_t offset, std::size_t bytes) { bytes_.replace(offset, bytes, bytes, '.'); }
  std::size_t free_bytes() const {
    return static_cast<std::size_t>(std::count(bytes_.begin(), bytes_.end(), '.'));
  }
  std::size_t pieces() const {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < bytes_.size(); ++i)
      sum += bytes_[i] == '.' && (i == 0 || bytes_[i - 1] == '#');
    return sum;
  }

 private:
  std::string bytes_;
};

TEST(FreeRanges, DoAsAPlainModelDoes) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SeededRandom random(seed);
    const std::uint64_t bytes = 1 + random.below(300);
    FreeRanges ranges(bytes);
    Plain plain(bytes);
    std::map<std::uint64_t, std::uint64_t> taken;  // offset → bytes
    for (int turn = 0; turn < 500; ++turn) {
      if (random.chance(550'000)) {
        const std::uint64_t wanted = 1 + random.below(40);
        const auto offset = ranges.take(wanted);
        ASSERT_EQ(offset, plain.take(wanted)) << "turn " << turn;
        if (offset) taken[*offset] = wanted;
      } else if (!taken.empty()) {
        auto range = taken.begin();
        std::advance(range, random.below(taken.size()));
        const auto [offset, size] = *range;
        taken.erase(range);
        const std::uint64_t part = random.chance(300'000) ? 1 + random.below(size) : size;
        ranges.give(offset, part);
        plain.give(offset, part);
        if (part < size) taken[offset + part] = size - part;
      }
      ASSERT_EQ(ranges.free_bytes(), plain.free_bytes()) << "turn " << turn;
      ASSERT_EQ(ranges.pieces(), plain.pieces()) << "turn " << turn;
      ASSERT_EQ(ranges.all_free(), taken.empty()) << "turn " << turn;
    }
  }
}

TEST(FreeRanges, NothingIsGivenBackTwice) {
  FreeRanges ranges(100);
  ASSERT_EQ(ranges.take(50), 0U);
  EXPECT_DEATH(ranges.give(40, 20), "given back twice");  // its end is free
  EXPECT_DEATH(ranges.give(60, 10), "given back twice");  // all of it is
  EXPECT_DEATH(ranges.give(90, 20), "given back twice");  // past the end
  ranges.give(10, 10);
  EXPECT_DEATH(ranges.give(15, 10), "given back twice");  // its start is
}

}  // namespace
}  // namespace penstock::test
