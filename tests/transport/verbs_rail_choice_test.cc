// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/rail_choice.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace penstock::test {
namespace {

using verbs::earliest_finish;
using verbs::RailLoad;

TEST(RailChoice, OfIdleRailsTheFastestAndOfEqualsTheFirst) {
  EXPECT_EQ(earliest_finish(std::array{RailLoad{0, 100}, RailLoad{0, 200}}, 1), 1U);
  EXPECT_EQ(earliest_finish(std::array{RailLoad{0, 100}, RailLoad{0, 100}}, 1), 0U);
  EXPECT_EQ(earliest_finish(std::array{RailLoad{7, 100}}, 1), 0U);
}

TEST(RailChoice, ABusyFastRailMayFinishAfterAnIdleSlowOne) {
  const std::array rails{RailLoad{3'000, 200}, RailLoad{0, 100}};
  EXPECT_EQ(earliest_finish(rails, 1'000), 1U);  // 20 against 10
  EXPECT_EQ(earliest_finish(rails, 4'000), 0U);  // 35 against 40: a long one pays for the speed
}

TEST(RailChoice, AStreamOfEqualWritesFollowsTheRates) {
  std::vector<RailLoad> rails{{0, 400}, {0, 200}, {0, 100}};
  std::vector<int> taken(rails.size(), 0);
  for (int i = 0; i < 700; ++i) {
    const std::size_t rail = earliest_finish(rails, 1'000);
    rails[rail].outstanding_bytes += 1'000;
    ++taken[rail];
  }
  EXPECT_EQ(taken, (std::vector{400, 200, 100}));
}

TEST(RailChoice, ARailThatDrainsAtHalfItsRateGetsHalf) {
  std::vector<RailLoad> rails{{0, 100}, {0, 100}};
  std::array<std::uint64_t, 2> taken{};
  for (int tick = 0; tick < 3'000; ++tick) {
    const std::size_t rail = earliest_finish(rails, 10);
    if (rails[rail].outstanding_bytes < 1'000) {
      rails[rail].outstanding_bytes += 10;
      taken[rail] += 10;
    }
    rails[0].outstanding_bytes -= std::min<std::uint64_t>(rails[0].outstanding_bytes, 6);
    rails[1].outstanding_bytes -= std::min<std::uint64_t>(rails[1].outstanding_bytes, 3);
  }
  EXPECT_NEAR(static_cast<double>(taken[0]) / static_cast<double>(taken[1]), 2.0, 0.2);
}

}  // namespace
}  // namespace penstock::test
