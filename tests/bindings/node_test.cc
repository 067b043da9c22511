// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/node.h"

#include "tests/bindings/job.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 20'000;
constexpr Round kRounds = 5;

struct Model {
  std::vector<float> gradients = std::vector<float>(kElements);
  std::vector<float> parameters = std::vector<float>(kElements);

  Tensor tensor(Key key, std::uint64_t elements = kElements) {
    Tensor tensor;
    tensor.key = key;
    tensor.spec.name = "model";
    tensor.spec.shape = {elements};
    tensor.spec.optimizer.learning_rate = 1;
    tensor.spec.reduce = Reduce::kSum;
    tensor.gradients = std::as_writable_bytes(std::span(gradients).first(elements));
    tensor.parameters = std::as_writable_bytes(std::span(parameters).first(elements));
    return tensor;
  }
};

class NodeTest : public ::testing::TestWithParam<const char*> {};

TEST_P(NodeTest, TrainsAndLeaves) {
  JobOptions options;
  options.transport = GetParam();
  options.workers = 2;
  options.servers = 2;
  options.lanes = 2;
  Job job(options);
  ASSERT_FALSE(HasFailure());
  job.each_worker([&](Rank rank) {
    Worker& worker = job.workers[rank]->worker();
    Model model;
    if (rank == 0)
      for (std::uint64_t i = 0; i < kElements; ++i) model.parameters[i] = static_cast<float>(i % 7);
    Status declared = worker.declare({model.tensor(3)});
    ASSERT_TRUE(declared.ok()) << declared.to_string();
    for (Round round = 1; round <= kRounds; ++round) {
      for (std::uint64_t i = 0; i < kElements; ++i)
        model.gradients[i] = static_cast<float>(rank + 1 + i % 3);
      ASSERT_TRUE(worker.push_pull(3, round).ok());
      const Status waited = worker.wait(3, round);
      ASSERT_TRUE(waited.ok()) << waited.to_string();
      for (std::uint64_t i = 0; i < kElements; ++i)
        ASSERT_EQ(model.parameters[i],
                  static_cast<float>(i % 7) - static_cast<float>(round * (3 + 2 * (i % 3))));
    }
    EXPECT_TRUE(worker.barrier().ok());
    EXPECT_TRUE(worker.leave().ok());
  });
  for (const auto& server : job.servers) {
    const Status status = server->wait(job.deadline_ns());
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  const Status status = job.scheduler->wait(job.deadline_ns());
  EXPECT_TRUE(status.ok()) << status.to_string();
}

TEST_P(NodeTest, WorkersThatDisagreeAreBothTold) {
  JobOptions options;
  options.transport = GetParam();
  options.workers = 2;
  Job job(options);
  ASSERT_FALSE(HasFailure());
  job.each_worker([&](Rank rank) {
    Worker& worker = job.workers[rank]->worker();
    Model model;
    const Status declared = worker.declare({model.tensor(1, rank == 0 ? 64 : 128)});
    EXPECT_EQ(declared.code(), Code::kMismatch);
    EXPECT_NE(declared.what().find("shape [64] against [128]"), std::string::npos)
        << declared.to_string();
    EXPECT_TRUE(worker.declare({model.tensor(1)}).ok());  // and nothing is broken
    EXPECT_TRUE(worker.leave().ok());
  });
}

TEST_P(NodeTest, ADeadWorkerIsNamedToTheOthers) {
  JobOptions options;
  options.transport = GetParam();
  options.workers = 2;
  std::vector<Model> models(2);  // lent to workers that end without leaving: they go last
  Job job(options);
  ASSERT_FALSE(HasFailure());
  job.each_worker([&](Rank rank) {
    EXPECT_TRUE(job.workers[rank]->worker().declare({models[rank].tensor(1)}).ok());
  });
  Worker& survivor = job.workers[0]->worker();
  ASSERT_TRUE(survivor.push_pull(1, 1).ok());
  job.workers[1].reset();  // goes without leaving
  const Status status = survivor.wait(1, 1);
  EXPECT_EQ(status.code(), Code::kPeerLost) << status.to_string();
  EXPECT_NE(status.to_string().find("worker 1"), std::string::npos) << status.to_string();
  EXPECT_EQ(job.servers[0]->wait(job.deadline_ns()).code(), Code::kPeerLost);
  EXPECT_EQ(job.scheduler->wait(job.deadline_ns()).code(), Code::kPeerLost);
}

// Whatever the server hears of first, and whether or not the scheduler could still decide.
TEST(Node, AServerEndsWhenAWorkerAndTheSchedulerAreDead) {
  for (int attempt = 0; attempt < 20; ++attempt) {
    JobOptions options;
    options.workers = 2;
    Job job(options);
    ASSERT_FALSE(HasFailure());
    job.workers[0].reset();
    job.scheduler.reset();
    const Status ended = job.servers[0]->wait(job.deadline_ns());
    EXPECT_EQ(ended.code(), Code::kPeerLost) << ended.to_string();
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, NodeTest, ::testing::Values("loopback", "tcp", "shm", "auto"),
                         [](const auto& suite) { return suite.param; });

// Over memory that processes of one host share, both directions stay where they are.
class InPlaceNodeTest : public ::testing::TestWithParam<const char*> {};

TEST_P(InPlaceNodeTest, NeitherGradientsNorParametersMove) {
  JobOptions options;
  options.transport = GetParam();
  options.workers = 2;
  options.servers = 2;
  options.lanes = 2;
  Job job(options);
  ASSERT_FALSE(HasFailure());
  job.each_worker([&](Rank rank) {
    Worker& worker = job.workers[rank]->worker();
    auto memory = worker.allocate(2 * kElements * sizeof(float));
    ASSERT_TRUE(memory.ok()) << memory.status().to_string();
    auto* const floats = reinterpret_cast<float*>((*memory)->bytes().data());
    Tensor tensor = Model().tensor(3);
    tensor.gradients = (*memory)->bytes().first(kElements * sizeof(float));
    tensor.parameters = (*memory)->bytes().last(rank == 0 ? kElements * sizeof(float) : 0);
    tensor.view = true;
    const Status declared = worker.declare({tensor});
    ASSERT_TRUE(declared.ok()) << declared.to_string();
    for (Round round = 1; round <= kRounds; ++round) {
      for (std::uint64_t i = 0; i < kElements; ++i)
        floats[i] = static_cast<float>(rank + 1 + i % 3);
      ASSERT_TRUE(worker.push_pull(3, round).ok());
      const Status waited = worker.wait(3, round);
      ASSERT_TRUE(waited.ok()) << waited.to_string();
      std::uint64_t next = 0;
      const auto pieces = worker.view(3);
      for (const ParameterPiece& piece : *pieces) {
        ASSERT_EQ(piece.first_element, next);
        const auto* const values = reinterpret_cast<const float*>(piece.bytes.data());
        for (std::uint64_t i = 0; i < piece.bytes.size() / sizeof(float); ++i, ++next)
          ASSERT_EQ(values[i], -static_cast<float>(round * (3 + 2 * (next % 3))));
      }
      ASSERT_EQ(next, kElements);
    }
    EXPECT_TRUE(worker.barrier().ok());
    EXPECT_TRUE(worker.leave().ok());
  });
  std::uint64_t in_place = 0;
  for (const auto& server : job.servers) {
    EXPECT_TRUE(server->wait(job.deadline_ns()).ok());
    in_place += server->server().gradients_in_place();
  }
  EXPECT_GT(in_place, 0U);
}

INSTANTIATE_TEST_SUITE_P(Transports, InPlaceNodeTest, ::testing::Values("loopback", "shm", "auto"),
                         [](const auto& suite) { return suite.param; });

TEST(Node, ARankIsStartedOnce) {
  Job job({});
  ASSERT_FALSE(HasFailure());
  NodeOptions again = job.node_options(0);
  const auto second = WorkerNode::start(again);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kAlreadyExists) << second.status().to_string();
  EXPECT_TRUE(job.workers[0]->worker().leave().ok());
}

TEST(Node, NoSchedulerIsATimelyError) {
  Job job({});
  NodeOptions lonely = job.node_options(0);
  lonely.scheduler = "127.0.0.1:1";
  lonely.call_timeout_ns = 2 * kSecond;
  const auto worker = WorkerNode::start(lonely);
  ASSERT_FALSE(worker.ok());
  EXPECT_NE(worker.status().to_string().find("127.0.0.1:1"), std::string::npos)
      << worker.status().to_string();
  EXPECT_TRUE(job.workers[0]->worker().leave().ok());
}

}  // namespace
}  // namespace penstock::test
