// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/counters.h"

#include <gtest/gtest.h>

namespace penstock::psbench {
namespace {

TEST(RailCounters, AddUpByRail) {
  RailCounters sums;
  const std::vector<Counter> one{{"rxe0:1.bytes_sent", 1}, {"rxe1:1.bytes_sent", 2}};
  add(sums, "verbs", one);
  add(sums, "verbs", one);
  add(sums, "tcp", std::vector<Counter>{{"bytes_sent", 5}});
  EXPECT_EQ(sums["rxe0:1"]["bytes_sent"], 2U);
  EXPECT_EQ(sums["rxe1:1"]["bytes_sent"], 4U);
  EXPECT_EQ(sums["tcp"]["bytes_sent"], 5U);
  EXPECT_EQ(sums.size(), 3U);
}

TEST(RailCounters, ShowWhatIsNotZeroOnALinePerRail) {
  RailCounters sums;
  add(sums, "auto",
      std::vector<Counter>{{"verbs.rxe0:1.bytes_sent", 3 << 20},
                           {"verbs.rxe0:1.rnr_errors", 7},
                           {"verbs.rxe0:1.strays", 0},
                           {"tcp.bytes_sent", 0}});
  EXPECT_EQ(lines_of(sums, "servers"), "servers verbs.rxe0:1: bytes_sent 3M, rnr_errors 7\n");
}

}  // namespace
}  // namespace penstock::psbench
