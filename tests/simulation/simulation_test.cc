// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The job as a whole, seed by seed. PENSTOCK_SIM_SEED=n replays one seed and says what it did;
// PENSTOCK_SIM_SEEDS=n runs that many.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/simulation/cluster.h"

namespace penstock::testing {
namespace {

ClusterOptions calm(std::uint32_t workers, std::uint32_t servers, std::uint32_t lanes) {
  ClusterOptions options;
  options.workers = workers;
  options.servers = servers;
  options.lanes = lanes;
  options.program.sizes = {1000, 17, 4096};
  options.program.workers = workers;
  return options;
}

TEST(Simulation, TrainsUndisturbed) {
  for (const std::uint32_t workers : {1U, 3U})
    for (const std::uint32_t servers : {1U, 2U}) {
      const ClusterResult result = run_cluster(calm(workers, servers, 2));
      ASSERT_TRUE(result.finished);
      EXPECT_EQ(result.audit_error, "");
      for (const Status& status : result.programs) EXPECT_TRUE(status.ok()) << status.to_string();
    }
}

TEST(Simulation, ResultDoesNotDependOnServersLanesOrSlices) {
  const std::uint64_t expected = run_cluster(calm(2, 1, 1)).fingerprint;
  for (const std::uint32_t servers : {2U, 3U})
    for (const std::uint32_t lanes : {1U, 3U}) {
      ClusterOptions options = calm(2, servers, lanes);
      options.slice_bytes = kMinSliceBytes * servers;
      EXPECT_EQ(run_cluster(options).fingerprint, expected);
    }
}

}  // namespace
}  // namespace penstock::testing
