// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Jobs of workers alone, which bring up their own communicator: no server, collective calls only.

#include <cstring>

#include "tests/bindings/job.h"

namespace penstock::test {
namespace {

JobOptions four_workers() {
  JobOptions options;
  options.workers = 4;
  options.servers = 0;
  return options;
}

TEST(WorkersOnly, ShareAnIdMeetAtBarriersAndLeave) {
  Job job(four_workers());
  ASSERT_FALSE(HasFailure());
  job.each_worker([&](Rank rank) {
    Worker& worker = job.workers[rank]->worker();
    for (std::uint8_t turn = 1; turn <= 3; ++turn) {
      std::vector<std::byte> id(128, static_cast<std::byte>(rank == turn ? turn : 0));
      const Status shared = worker.share("id", id, turn);
      ASSERT_TRUE(shared.ok()) << shared.to_string();
      EXPECT_EQ(id, std::vector<std::byte>(128, static_cast<std::byte>(turn)));
      EXPECT_TRUE(worker.barrier().ok());
    }
    EXPECT_TRUE(worker.leave().ok());
  });
  EXPECT_TRUE(job.scheduler->wait(job.deadline_ns()).ok());
}

TEST(WorkersOnly, ADeathEndsTheWaitWithItsName) {
  Job job(four_workers());
  ASSERT_FALSE(HasFailure());
  job.each_worker([&](Rank rank) {
    if (rank == 3) return job.workers[rank].reset();
    std::vector<std::byte> id(128);
    const Status shared = job.workers[rank]->worker().share("id", id);
    EXPECT_EQ(shared.code(), Code::kPeerLost) << shared.to_string();
    EXPECT_NE(shared.what().find("worker 3"), std::string::npos) << shared.to_string();
  });
}

TEST(WorkersOnly, AServerIsToldThatItIsNotWanted) {
  Job job(four_workers());
  ASSERT_FALSE(HasFailure());
  auto server = ServerNode::start(job.node_options());
  ASSERT_TRUE(server.ok());
  const Status refused = (*server)->wait(job.deadline_ns());
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_NE(refused.what().find("this job has no servers"), std::string::npos)
      << refused.to_string();
  job.each_worker([&](Rank rank) { EXPECT_TRUE(job.workers[rank]->worker().leave().ok()); });
}

}  // namespace
}  // namespace penstock::test
