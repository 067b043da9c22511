// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Jobs of workers alone: no server, no tensor, only collective calls.

#include <gtest/gtest.h>

#include "engine/protocol/limits.h"
#include "tests/engine/hand_job.h"

namespace penstock::test {
namespace {

constexpr std::uint32_t kWorkers = 4;

HandJobOptions workers_only() {
  HandJobOptions options;
  options.workers = kWorkers;
  options.servers = 0;
  return options;
}

using Bytes = std::vector<std::byte>;

// Worker `rank` holds its own bytes: what it shares if it is the root.
std::vector<Bytes> own_bytes(std::size_t size) {
  std::vector<Bytes> all(kWorkers, Bytes(size));
  for (Rank rank = 0; rank < kWorkers; ++rank)
    for (std::size_t i = 0; i < size; ++i)
      all[rank][i] = static_cast<std::byte>((rank + 1) * 37 + i * 11 + i / 256);
  return all;
}

TEST(Share, EveryWorkerGetsTheBytesOfTheRoot) {
  HandJob job(workers_only());
  EXPECT_EQ(job.worker(0).servers(), 0U);
  for (const std::size_t size : {std::size_t{1}, std::size_t{128}, kMaxShareBytes})
    for (const Rank root : {Rank{0}, Rank{3}}) {
      std::vector<Bytes> bytes = own_bytes(size);
      const Bytes wanted = bytes[root];
      std::vector<Ticket> tickets;
      for (Rank rank = 0; rank < kWorkers; ++rank)
        tickets.push_back(job.worker(rank).begin_share("id", bytes[rank], root));
      for (Rank rank = 0; rank < kWorkers; ++rank) {
        const Status shared = job.finish(rank, tickets[rank]);
        ASSERT_TRUE(shared.ok()) << shared.to_string();
        EXPECT_EQ(bytes[rank], wanted) << "worker " << rank << ", " << size << " bytes";
      }
    }
}

TEST(Share, WaitsForALateWorkerAndMixesWithBarriers) {
  HandJob job(workers_only());
  std::vector<Bytes> bytes = own_bytes(128);
  std::vector<Ticket> tickets, barriers;
  for (Rank rank = 0; rank + 1 < kWorkers; ++rank) {
    tickets.push_back(job.worker(rank).begin_share("id", bytes[rank]));
    barriers.push_back(job.worker(rank).begin_barrier());
  }
  for (int i = 0; i < 50; ++i) job.step();
  EXPECT_FALSE(job.worker(0).poll(tickets[0]).has_value());
  tickets.push_back(job.worker(kWorkers - 1).begin_share("id", bytes[kWorkers - 1]));
  for (Rank rank = 0; rank < kWorkers; ++rank) EXPECT_TRUE(job.finish(rank, tickets[rank]).ok());
  EXPECT_EQ(bytes[kWorkers - 1], bytes[0]);
  for (int i = 0; i < 50; ++i) job.step();
  EXPECT_FALSE(job.worker(0).poll(barriers[0]).has_value());
  barriers.push_back(job.worker(kWorkers - 1).begin_barrier());
  for (Rank rank = 0; rank < kWorkers; ++rank) EXPECT_TRUE(job.finish(rank, barriers[rank]).ok());
}

TEST(Share, DisagreementIsToldToEverybodyAndHurtsNoLaterCall) {
  HandJob job(workers_only());
  std::vector<Bytes> bytes = own_bytes(16);
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < kWorkers; ++rank)
    tickets.push_back(job.worker(rank).begin_share("id", bytes[rank], rank == 2 ? 1 : 0));
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    const Status shared = job.finish(rank, tickets[rank]);
    EXPECT_EQ(shared.code(), Code::kMismatch);
    EXPECT_NE(shared.what().find("worker 0 (worker0) and worker 2 (worker2) disagree"),
              std::string::npos)
        << shared.to_string();
  }
  EXPECT_EQ(bytes, own_bytes(16));  // nobody's were touched
  tickets.clear();
  for (Rank rank = 0; rank < kWorkers; ++rank)
    tickets.push_back(job.worker(rank).begin_share("id", bytes[rank]));
  for (Rank rank = 0; rank < kWorkers; ++rank) EXPECT_TRUE(job.finish(rank, tickets[rank]).ok());
}

TEST(Share, RefusesWhatCannotBe) {
  HandJob job(workers_only());
  Bytes much(kMaxShareBytes + 1), some(8);
  Worker& worker = job.worker(0);
  for (const auto& [ticket, wanted] : std::initializer_list<std::pair<Ticket, const char*>>{
           {worker.begin_share("id", much), "65537 bytes"},
           {worker.begin_share("id", {}), "0 bytes"},
           {worker.begin_share(std::string(257, 'n'), some), "a name of 257 bytes"},
           {worker.begin_share("id", some, kWorkers), "from worker 4; this job has 4"}}) {
    const Status refused = job.finish(0, ticket);
    EXPECT_EQ(refused.code(), Code::kInvalidArgument) << refused.to_string();
    EXPECT_NE(refused.what().find(wanted), std::string::npos) << refused.to_string();
  }
}

TEST(WorkersOnly, ATensorIsRefusedInWords) {
  HandJob job(workers_only());
  Counted tensor(64);
  const Status declared = job.finish(0, job.worker(0).begin_declare({tensor.tensor(7)}));
  EXPECT_EQ(declared.code(), Code::kUnsupported);
  EXPECT_NE(declared.what().find("key 7 'counted': this job has no servers"), std::string::npos)
      << declared.to_string();
  EXPECT_EQ(job.worker(0).push_pull(7, 1).code(), Code::kNotFound);
  for (Rank rank = 0; rank < kWorkers; ++rank)
    EXPECT_TRUE(job.finish(rank, job.worker(rank).begin_leave()).ok());
}

}  // namespace
}  // namespace penstock::test
