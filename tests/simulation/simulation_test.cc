// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The job as a whole, seed by seed. PENSTOCK_SIM_SEED=n replays one seed and says what it did;
// PENSTOCK_SIM_SEEDS=n runs that many.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>

#include "tests/simulation/cluster.h"

namespace penstock::test {
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

TEST(Simulation, NormsThatClipNothingChangeNothing) {
  const std::uint64_t expected = run_cluster(calm(2, 1, 1)).fingerprint;
  for (const std::uint32_t servers : {1U, 3U})
    for (const std::uint32_t lanes : {1U, 2U}) {
      ClusterOptions options = calm(2, servers, lanes);
      options.program.norms = true;
      EXPECT_EQ(run_cluster(options).fingerprint, expected);
    }
}

// A server is gone in the middle of rounds whose norms need it.
TEST(Simulation, AServerThatDiesInAnExchangeIsNamedInTime) {
  for (const bool silent : {false, true})
    for (const TimeNs at_ns : {40, 55, 70, 85}) {
      ClusterOptions options = calm(2, 2, 2);
      options.program.norms = true;
      options.program.rounds = 1000;
      options.faults.data = options.faults.control = {kMillisecond, 2 * kMillisecond};
      options.death = Death{Role::kServer, 1, at_ns * kMillisecond, silent};
      const ClusterResult result = run_cluster(options);
      ASSERT_TRUE(result.finished && result.started);
      EXPECT_EQ(result.audit_error, "");
      for (const Status& status : result.programs)
        EXPECT_NE(status.to_string().find("server 1 (server1)"), std::string::npos)
            << status.to_string();
      EXPECT_LE(result.noticed_after_ns, 3 * options.detect_ns);
    }
}

std::uint64_t environment_number(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// Everything about a run follows from its seed.
ClusterOptions from_seed(std::uint64_t seed) {
  SeededRandom random(seed);
  ClusterOptions options;
  options.seed = seed;
  options.workers = static_cast<std::uint32_t>(1 + random.below(4));
  options.servers = static_cast<std::uint32_t>(1 + random.below(3));
  options.lanes = static_cast<std::uint32_t>(1 + random.below(2));
  options.program.workers = options.workers;
  options.program.rounds = 3 + random.below(5);
  for (std::uint64_t keys = 1 + random.below(4); keys > 0; --keys)
    options.program.sizes.push_back(1 + random.below(1500));

  options.faults.seed = seed;
  options.faults.data = {10 * kMicrosecond,
                         kMillisecond * static_cast<TimeNs>(1 + random.below(9))};
  options.faults.control = {10 * kMicrosecond, 5 * kMillisecond};
  options.faults.spike_per_million = 5'000;
  options.faults.spike_ns = 50 * kMillisecond;
  options.faults.applied_at_cut_per_million = 500'000;
  options.faults.torn_at_cut_per_million = 500'000;
  if (random.chance(500'000))
    options.faults.cut_per_million = static_cast<std::uint32_t>(random.below(60'000));
  for (std::uint64_t cuts = random.below(4); cuts > 0; --cuts)
    options.cuts_ns.push_back(static_cast<TimeNs>(random.below(300)) * kMillisecond);
  std::sort(options.cuts_ns.begin(), options.cuts_ns.end());
  if (random.chance(300'000)) {
    Death death;
    death.role = static_cast<Role>(random.below(3));
    death.rank = static_cast<Rank>(random.below(death.role == Role::kWorker   ? options.workers
                                                : death.role == Role::kServer ? options.servers
                                                                              : 1));
    death.at_ns = static_cast<TimeNs>(random.below(400)) * kMillisecond;
    death.silent = random.chance(500'000);
    options.death = death;
  }
  options.program.in_place = random.chance(500'000);
  options.program.codecs = random.chance(500'000);
  if (random.chance(750'000))
    options.faults.reorder_per_million = static_cast<std::uint32_t>(random.below(1'000'000));
  options.program.norms = random.chance(500'000);
  options.gpu = random.chance(300'000);
  if (options.gpu) options.program.codecs = options.program.norms = false;  // GPUs have neither
  return options;
}

ClusterOptions undisturbed(ClusterOptions options) {
  options.faults = {};
  options.cuts_ns.clear();
  options.death.reset();
  options.program.in_place = false;  // reading in place changes no bit
  options.gpu = false;               // nor does a GPU
  return options;
}

// The invariant: the ledger is clean whatever happens; a job that survives ends with the bits of
// the undisturbed run; a death is noticed in time by everybody it concerns, and named.
void expect_invariant(std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("replay with PENSTOCK_SIM_SEED={}", seed));
  const ClusterOptions options = from_seed(seed);
  const ClusterResult result = run_cluster(options);
  ASSERT_TRUE(result.finished) << "still running after " << result.virtual_ns / kSecond << " s";
  EXPECT_EQ(result.audit_error, "");
  bool survived = true;
  for (const Status& status : result.programs) {
    survived = survived && status.ok();
    if (status.ok() || status.what() == "killed") continue;
    ASSERT_TRUE(options.death) << status.to_string();
    // Before the job runs, a member that died may be started again until the time to join is over.
    if (!result.started) {
      EXPECT_LE(result.noticed_after_ns, kDefaultCallTimeoutNs + 2 * options.detect_ns);
      continue;
    }
    Member dead{options.death->role, options.death->rank, 0, "", "", ""};
    dead.name = fmt::format("{}{}", role_name(dead.role), dead.rank);
    const bool named = status.to_string().find(describe(dead)) != std::string::npos ||
                       dead.role == Role::kScheduler;
    EXPECT_TRUE(named) << status.to_string();
    EXPECT_LE(result.noticed_after_ns, 3 * options.detect_ns) << status.to_string();
  }
  if (survived) {
    EXPECT_EQ(result.fingerprint, run_cluster(undisturbed(options)).fingerprint);
  }
}

TEST(Simulation, EverySeedKeepsTheInvariant) {
  const spdlog::level::level_enum level = spdlog::get_level();
  spdlog::set_level(spdlog::level::err);  // expected deaths are not worth a line each
  const std::uint64_t replay = environment_number("PENSTOCK_SIM_SEED", 0);
  if (replay != 0) {
    spdlog::set_level(spdlog::level::debug);
    expect_invariant(replay);
    return spdlog::set_level(level);
  }
  const std::uint64_t seeds = environment_number("PENSTOCK_SIM_SEEDS", PENSTOCK_SIM_SEEDS_DEFAULT);
  for (std::uint64_t seed = 1; seed <= seeds && !HasFailure(); ++seed) expect_invariant(seed);
  spdlog::set_level(level);
}

TEST(Simulation, EqualSeedsGiveEqualRuns) {
  for (const std::uint64_t seed : {3U, 14U, 159U}) {
    const ClusterResult first = run_cluster(from_seed(seed));
    const ClusterResult second = run_cluster(from_seed(seed));
    EXPECT_EQ(first.virtual_ns, second.virtual_ns);
    EXPECT_EQ(first.fingerprint, second.fingerprint);
  }
}

}  // namespace
}  // namespace penstock::test
