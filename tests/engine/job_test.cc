// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Jobs driven by hand: keys that come and go, and what a broken data connection does.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cmath>

#include "tests/engine/hand_job.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 30'000;

class JobTest : public ::testing::TestWithParam<const char*> {
 protected:
  HandJobOptions options(std::uint32_t workers) const {
    HandJobOptions options;
    options.transport = GetParam();
    options.workers = workers;
    options.servers = 2;
    options.lanes = 2;
    return options;
  }

  // Declares one counted tensor per worker.
  static std::vector<Counted> declare(HandJob& job, std::uint32_t workers) {
    std::vector<Counted> tensors(workers, Counted(kElements));
    std::vector<Ticket> tickets;
    for (Rank rank = 0; rank < workers; ++rank)
      tickets.push_back(job.worker(rank).begin_declare({tensors[rank].tensor(1)}));
    for (Rank rank = 0; rank < workers; ++rank) {
      const Status declared = job.finish(rank, tickets[rank]);
      EXPECT_TRUE(declared.ok()) << declared.to_string();
    }
    return tensors;
  }

  static void start(HandJob& job, std::vector<Counted>& tensors, Round round) {
    for (Rank rank = 0; rank < tensors.size(); ++rank) {
      for (std::uint64_t i = 0; i < kElements; ++i)
        tensors[rank].gradients[i] = static_cast<float>((i + round + rank) % 5);
      const Status pushed = job.worker(rank).push_pull(1, round);
      ASSERT_TRUE(pushed.ok()) << pushed.to_string();
    }
  }

  static void expect_counted(const std::vector<Counted>& tensors, Round round) {
    for (const Counted& tensor : tensors)
      for (std::uint64_t i = 0; i < kElements; ++i) {
        float expected = 0;
        for (Round r = 1; r <= round; ++r)
          for (Rank rank = 0; rank < tensors.size(); ++rank)
            expected -= static_cast<float>((i + r + rank) % 5);
        ASSERT_EQ(tensor.parameters[i], expected) << "element " << i << " round " << round;
      }
  }
};

// Data connections over tcp are the only inet sockets of this process: control is in memory.
void cut_all_sockets() {
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0 &&
        peer.ss_family == AF_INET)
      ::shutdown(fd, SHUT_RDWR);
  }
}

// What was said of the gradients, and that the round failed, is said again after a reconnection.
TEST(Job, RoundsFailForAllAfterTheirConnectionsWereCut) {
  HandJobOptions options;
  options.transport = "tcp";
  options.workers = 2;
  options.servers = 2;
  HandJob job(options);
  std::vector<Counted> tensors(2, Counted(kElements));
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank) {
    Tensor tensor = tensors[rank].tensor(1);
    tensor.spec.not_finite = NotFinite::kFail;
    tickets.push_back(job.worker(rank).begin_declare({tensor}));
  }
  for (Rank rank = 0; rank < 2; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
  for (Round round = 1; round <= 12; ++round) {
    const bool fails = round % 3 != 0;
    for (Rank rank = 0; rank < 2; ++rank) {
      tensors[rank].gradients.assign(kElements, 1);
      if (fails && rank == round % 2) tensors[rank].gradients[5] = HUGE_VALF;
      ASSERT_TRUE(job.worker(rank).push_pull(1, round).ok());
    }
    for (Round steps = 0; steps < round * 2; ++steps) job.step();
    cut_all_sockets();
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); })) << "round " << round;
    for (Rank rank = 0; rank < 2; ++rank) {
      EXPECT_EQ(job.worker(rank).wait(1, round, 0).code(), fails ? Code::kNotFinite : Code::kOk);
      for (const float parameter : tensors[rank].parameters)
        ASSERT_EQ(parameter, -2.0F * static_cast<float>(round / 3)) << "round " << round;
    }
  }
}

TEST(Job, ResumesAfterItsConnectionsWereCut) {
  HandJobOptions options;
  options.transport = "tcp";
  options.workers = 2;
  options.servers = 2;
  HandJob job(options);
  std::vector<Counted> tensors(2, Counted(kElements));
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank)
    tickets.push_back(job.worker(rank).begin_declare({tensors[rank].tensor(1)}));
  for (Rank rank = 0; rank < 2; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
  for (Round round = 1; round <= 12; ++round) {
    for (Rank rank = 0; rank < 2; ++rank) {
      for (std::uint64_t i = 0; i < kElements; ++i)
        tensors[rank].gradients[i] = static_cast<float>(i % 3 + rank + round % 2);
      ASSERT_TRUE(job.worker(rank).push_pull(1, round).ok());
    }
    // Cut at another point of every round: nothing sent, some sent, everything under way.
    for (Round steps = 0; steps < round * 2; ++steps) job.step();
    cut_all_sockets();
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); })) << "round " << round;
    for (Rank rank = 0; rank < 2; ++rank)
      for (std::uint64_t i = 0; i < kElements; ++i) {
        float expected = 0;
        for (Round r = 1; r <= round; ++r) expected -= static_cast<float>(2 * (i % 3 + r % 2) + 1);
        ASSERT_EQ(tensors[rank].parameters[i], expected) << "round " << round << " element " << i;
      }
  }
}

TEST_P(JobTest, KeysComeGoAndChangeBetweenRounds) {
  HandJob job(options(1));
  Counted first(100), second(5000), changed(77);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({first.tensor(1)})).ok());
  ASSERT_TRUE(job.worker(0).push_pull(1, 1).ok());
  ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1); }));
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({second.tensor(2)})).ok());
  EXPECT_EQ(job.finish(0, job.worker(0).begin_declare({changed.tensor(1)})).code(),
            Code::kAlreadyExists);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_remove({1})).ok());
  EXPECT_EQ(job.worker(0).push_pull(1, 2).code(), Code::kNotFound);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({changed.tensor(1)})).ok());
  for (const Key key : {Key{1}, Key{2}}) ASSERT_TRUE(job.worker(0).push_pull(key, 1).ok());
  ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1) && job.round_finished(2, 1); }));
}

// The buffers are the caller's again once remove() is done: a sanitizer would see a late write.
TEST_P(JobTest, RemovedBuffersMayGoAtOnce) {
  HandJob job(options(1));
  for (int turn = 0; turn < 20; ++turn) {
    auto tensor = std::make_unique<Counted>(kElements + static_cast<std::uint64_t>(turn));
    ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({tensor->tensor(1)})).ok());
    ASSERT_TRUE(job.worker(0).push_pull(1, 1).ok());
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1); }));
    ASSERT_TRUE(job.finish(0, job.worker(0).begin_remove({1})).ok());
    tensor.reset();
    for (int i = 0; i < 5; ++i) job.step();
  }
  EXPECT_EQ(job.server(0).memory_bytes() + job.server(1).memory_bytes(), 0U);
  EXPECT_EQ(job.server(0).registered_bytes() + job.server(1).registered_bytes(), 0U);
}

TEST_P(JobTest, KeysDeclaredOneByOneShareRegions) {
  constexpr Key kKeys = 60;
  HandJob job(options(1));
  const std::uint64_t before = job.set_up_calls().allocations;
  std::vector<Counted> tensors(kKeys, Counted(kElements));
  for (Key key = 0; key < kKeys; ++key)
    ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({tensors[key].tensor(key)})).ok());
  // Two servers with two lanes with one pool for parameters and one for the worker's slots: eight
  // pools of up to 3.5 MiB, which is 64 KiB doubled six times.
  EXPECT_LE(job.set_up_calls().allocations - before, 8U * 7U);
  const std::uint64_t used = job.server(0).memory_bytes() + job.server(1).memory_bytes();
  const std::uint64_t held = job.server(0).registered_bytes() + job.server(1).registered_bytes();
  EXPECT_GE(held, used);
  EXPECT_LE(held, 2 * used);
}

// What is declared anew lies where the old key lay: neither its values nor its velocities may stay.
TEST_P(JobTest, ANewKeySeesNothingOfTheOldOneInItsPlace) {
  HandJob job(options(1));
  Counted keeper(64), tensor(kElements);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({keeper.tensor(9)})).ok());
  Tensor momentum = tensor.tensor(1);
  momentum.spec.optimizer.kind = OptimizerKind::kMomentum;
  std::vector<float> first;
  for (int life = 0; life < 3; ++life) {
    tensor.parameters.assign(kElements, 1);
    tensor.gradients.assign(kElements, 1);
    ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({momentum})).ok());
    for (Round round = 1; round <= 3; ++round) {
      ASSERT_TRUE(job.worker(0).push_pull(1, round).ok());
      ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); }));
    }
    if (life == 0) first = tensor.parameters;
    EXPECT_EQ(tensor.parameters, first) << "life " << life;
    ASSERT_TRUE(job.finish(0, job.worker(0).begin_remove({1})).ok());
  }
}

TEST_P(JobTest, WrongRoundsAndBuffersAreRefused) {
  HandJob job(options(1));
  Counted tensor(64);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({tensor.tensor(1)})).ok());
  EXPECT_EQ(job.worker(0).push_pull(9, 1).code(), Code::kNotFound);
  EXPECT_EQ(job.worker(0).push_pull(1, 2).code(), Code::kInvalidArgument);
  ASSERT_TRUE(job.worker(0).push_pull(1, 1).ok());
  EXPECT_EQ(job.worker(0).push_pull(1, 2).code(), Code::kInvalidArgument);
  EXPECT_EQ(job.finish(0, job.worker(0).begin_remove({1})).code(), Code::kInvalidArgument);
  ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1); }));
  Tensor wrong = tensor.tensor(2);
  wrong.parameters = wrong.parameters.first(8);
  EXPECT_EQ(job.finish(0, job.worker(0).begin_declare({wrong})).code(), Code::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Transports, JobTest, ::testing::Values("loopback", "tcp"),
                         [](const auto& transport) { return std::string(transport.param); });

}  // namespace
}  // namespace penstock::test
