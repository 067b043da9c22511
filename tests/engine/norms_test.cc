// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Optimizers with whole-tensor norms in a job: the same bits as one thread with the whole tensor,
// however many lanes and servers share it.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/protocol/slice.h"
#include "engine/server/norm_exchange.h"
#include "kernels/optimizer_text.h"
#include "tests/engine/hand_job.h"
#include "tests/support/norm_tensor.h"
#include "transport/base/random.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kSliceBytes = 1024;
constexpr std::uint32_t kWorkers = 2;

struct Subject {
  const char* optimizer;
  std::vector<std::uint64_t> shape;
  DType gradient_dtype = DType::kFloat32;
};

const std::vector<Subject> kSubjects = {
    {"lars:learning_rate=0.5", {61, 37}},
    {"lamb", {2000}},
    {"lamb:clip_norm=0.5", {1500}, DType::kBfloat16},
    {"adafactor", {40, 50}},
    {"adafactor:clip_norm=1", {1}},
    {"sgd", {700}},
    {"adamw:clip_norm=0.25", {1, 999}},
    {"lars:clip_global_norm=2", {1800}},
    {"lamb:clip_global_norm=2,clip=0.7", {1300}},
    {"momentum:clip_global_norm=3", {5}},
    {"adafactor:clip_global_norm=2", {30, 30}},
};

std::vector<float> random_values(std::uint64_t seed, std::size_t count) {
  SeededRandom random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.below(2'000'001)) * 1e-6F - 1;
  return values;
}

// One worker's buffers of all subjects.
struct Buffers {
  explicit Buffers(Rank worker) : rank(worker) {
    for (const Subject& subject : kSubjects) {
      TensorSpec spec;
      spec.shape = subject.shape;
      spec.gradient_dtype = subject.gradient_dtype;
      gradients.emplace_back(spec.gradient_bytes());
      parameters.push_back(random_values(gradients.size(), spec.elements()));
    }
  }
  std::vector<Tensor> tensors() {
    std::vector<Tensor> all;
    for (std::size_t i = 0; i < kSubjects.size(); ++i) {
      Tensor tensor;
      tensor.key = i;
      tensor.spec.name = kSubjects[i].optimizer;
      tensor.spec.shape = kSubjects[i].shape;
      tensor.spec.gradient_dtype = kSubjects[i].gradient_dtype;
      tensor.spec.optimizer = parse_optimizer_spec(kSubjects[i].optimizer).value();
      tensor.gradients = gradients[i];
      tensor.parameters = std::as_writable_bytes(std::span(parameters[i]));
      all.push_back(std::move(tensor));
    }
    return all;
  }
  void fill(Round round) {
    for (std::size_t i = 0; i < kSubjects.size(); ++i) {
      const auto values = random_values(1000 * round + 10 * i + rank, parameters[i].size());
      best_kernels().encode(values.data(), gradients[i].data(), kSubjects[i].gradient_dtype,
                            values.size());
    }
  }
  Rank rank;
  std::vector<std::vector<std::byte>> gradients;
  std::vector<std::vector<float>> parameters;
};

// The same on one thread: every round one list of parameters per key.
class Reference {
 public:
  Reference() {
    for (std::size_t i = 0; i < kSubjects.size(); ++i) {
      const OptimizerSpec spec = parse_optimizer_spec(kSubjects[i].optimizer).value();
      if (!needs_norms(spec)) {
        tensors_.push_back(nullptr);
        continue;
      }
      std::uint64_t elements = workers_[0].parameters[i].size();
      std::vector<std::size_t> cuts;
      for (const Slice& slice : cut(elements, sizeof(float), kSliceBytes))
        if (slice.begin > 0) cuts.push_back(slice.begin);
      tensors_.push_back(std::make_unique<NormTensor>(spec, kSubjects[i].shape, cuts,
                                                      *available_kernels().front()));
      tensors_.back()->parameters = workers_[0].parameters[i];
      for (NormSlice& slice : tensors_.back()->slices)
        slice.parameters = tensors_.back()->parameters.data() + slice.first;
    }
  }
  void step(Round round) {
    for (Buffers& worker : workers_) worker.fill(round);
    double group = 0;
    for (std::size_t i = 0; i < kSubjects.size(); ++i) {
      if (tensors_[i] == nullptr) continue;
      tensors_[i]->sum(round, {workers_[0].gradients[i].data(), workers_[1].gradients[i].data()},
                       kSubjects[i].gradient_dtype, 0.5F);
      if (tensors_[i]->spec.clip_global_norm > 0) group += tensors_[i]->sums().first;
    }
    for (const auto& tensor : tensors_)
      if (tensor != nullptr) tensor->finish(group);
  }
  void expect_equal(const Buffers& worker, Round round) const {
    for (std::size_t i = 0; i < kSubjects.size(); ++i) {
      if (tensors_[i] == nullptr) continue;
      const std::vector<float>& expected = tensors_[i]->parameters;
      EXPECT_EQ(std::memcmp(worker.parameters[i].data(), expected.data(),
                            expected.size() * sizeof(float)),
                0)
          << kSubjects[i].optimizer << " round " << round << " worker " << worker.rank;
    }
  }

 private:
  std::vector<Buffers> workers_ = {Buffers(0), Buffers(1)};
  std::vector<std::unique_ptr<NormTensor>> tensors_;
};

struct Layout {
  const char* transport;
  std::uint32_t servers, lanes;
};

HandJobOptions job_of(const Layout& layout, std::uint32_t workers) {
  HandJobOptions options;
  options.transport = layout.transport;
  options.workers = workers;
  options.servers = layout.servers;
  options.lanes = layout.lanes;
  options.slice_bytes = kSliceBytes;
  return options;
}

class NormJob : public ::testing::TestWithParam<Layout> {};

TEST_P(NormJob, GivesTheBitsOfOneThread) {
  HandJob job(job_of(GetParam(), kWorkers));
  std::vector<Buffers> workers = {Buffers(0), Buffers(1)};
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < kWorkers; ++rank)
    tickets.push_back(job.worker(rank).begin_declare(workers[rank].tensors()));
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    const Status declared = job.finish(rank, tickets[rank]);
    ASSERT_TRUE(declared.ok()) << declared.to_string();
  }
  Reference reference;
  for (Round round = 1; round <= 4; ++round) {
    for (Rank rank = 0; rank < kWorkers; ++rank) {
      workers[rank].fill(round);
      for (Key key = 0; key < kSubjects.size(); ++key)  // in another order on each
        ASSERT_TRUE(
            job.worker(rank).push_pull(rank == 0 ? key : kSubjects.size() - 1 - key, round).ok());
    }
    for (Key key = 0; key < kSubjects.size(); ++key)
      ASSERT_TRUE(job.run_until([&] { return job.round_finished(key, round); }))
          << kSubjects[key].optimizer << " round " << round;
    reference.step(round);
    for (const Buffers& worker : workers) reference.expect_equal(worker, round);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, NormJob,
                         ::testing::Values(Layout{"loopback", 1, 1}, Layout{"loopback", 1, 3},
                                           Layout{"loopback", 2, 2}, Layout{"loopback", 3, 1},
                                           Layout{"tcp", 2, 2}, Layout{"shm", 2, 1}),
                         [](const auto& layout) {
                           return fmt::format("{}_{}x{}", layout.param.transport,
                                              layout.param.servers, layout.param.lanes);
                         });

Tensor clipped_tensor(Counted& counted, Key key) {
  Tensor tensor = counted.tensor(key);
  tensor.spec.optimizer.clip_global_norm = 1;
  return tensor;
}

// Two keys with gradients of norm 3 and 4: their global norm is 5.
TEST(GlobalNorm, WaitsForEveryKeyOfTheDeclaration) {
  HandJob job(job_of({"loopback", 2, 2}, 1));
  Counted three(900), four(1600);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare(
                                {clipped_tensor(three, 3), clipped_tensor(four, 4)}))
                  .ok());
  for (Round round = 1; round <= 3; ++round) {
    three.gradients.assign(900, 0.1F);
    four.gradients.assign(1600, 0.1F);
    ASSERT_TRUE(job.worker(0).push_pull(3, round).ok());
    for (int i = 0; i < 200; ++i) job.step();
    EXPECT_FALSE(job.round_finished(3, round));
    const Status removed = job.finish(0, job.worker(0).begin_remove({4}));
    EXPECT_EQ(removed.code(), Code::kInvalidArgument);
    EXPECT_NE(removed.what().find("global norm"), std::string::npos) << removed.to_string();
    ASSERT_TRUE(job.worker(0).push_pull(4, round).ok());
    ASSERT_TRUE(job.run_until(
        [&] { return job.round_finished(3, round) && job.round_finished(4, round); }));
    EXPECT_NEAR(three.parameters[17], -0.02 * static_cast<double>(round), 1e-6);
    EXPECT_NEAR(four.parameters[1599], -0.02 * static_cast<double>(round), 1e-6);
  }
  // Alone, its norm is 3.
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_remove({4})).ok());
  const float before = three.parameters[0];
  ASSERT_TRUE(job.worker(0).push_pull(3, 4).ok());
  ASSERT_TRUE(job.run_until([&] { return job.round_finished(3, 4); }));
  EXPECT_NEAR(three.parameters[0], before - 0.1 / 3, 1e-6);
}

TEST(Adafactor, LiesOnOneLane) {
  ShardMap map(2, 2, kSliceBytes);
  Declaration declaration;
  declaration.spec.shape = {64, 64};
  declaration.spec.optimizer = default_optimizer(OptimizerKind::kAdaFactor);
  const auto placement = map.add(std::span(&declaration, 1));
  ASSERT_TRUE(placement.ok());
  EXPECT_EQ(std::count_if(placement->lanes.begin(), placement->lanes.end(),
                          [](const LanePlacement& lane) { return !lane.slices.empty(); }),
            1);
}

// ---- what a server that errs sends --------------------------------------------------------------

class HostilePeer : public ::testing::Test {
 protected:
  HostilePeer() {
    rings_.emplace_back();
    declaration_.key = 7;
    declaration_.spec.shape = {2048};
    declaration_.spec.optimizer = default_optimizer(OptimizerKind::kLars);
    ShardMap map(2, 1, kSliceBytes);
    const Placement placement = map.add(std::span(&declaration_, 1)).value();
    theirs_ = placement.lanes[1].slices.size();
    EXPECT_EQ(exchange_.add(1, std::span(&declaration_, 1), placement), std::set<Rank>{1});
  }
  Status send(Key key, Round round, std::uint8_t stage, std::size_t numbers) {
    auto part = std::make_unique<wire::NormPartT>();
    part->key = key;
    part->round = round;
    part->stage = stage;
    part->values.resize(numbers);
    wire::NormPartialsT message;
    message.parts.push_back(std::move(part));
    return exchange_.receive(1, message);
  }

  Declaration declaration_;
  std::deque<NormRings> rings_;
  NormExchange exchange_{0, 2, rings_};
  std::size_t theirs_ = 0;
};

TEST_F(HostilePeer, IsRefusedWhatMakesNoSense) {
  EXPECT_EQ(send(8, 1, 0, 2 * theirs_).code(), Code::kProtocol);
  EXPECT_EQ(send(7, 0, 0, 2 * theirs_).code(), Code::kProtocol);
  EXPECT_EQ(send(7, 3, 0, 2 * theirs_).code(), Code::kProtocol);
  EXPECT_EQ(send(7, UINT64_MAX, 0, 2 * theirs_).code(), Code::kProtocol);
  EXPECT_EQ(send(7, 1, 1, 2 * theirs_).code(), Code::kProtocol);
  EXPECT_EQ(send(7, 1, 200, 2 * theirs_).code(), Code::kProtocol);
  EXPECT_EQ(send(7, 1, 0, 2 * theirs_ - 1).code(), Code::kProtocol);
  EXPECT_EQ(send(7, 1, 0, 0).code(), Code::kProtocol);
  EXPECT_TRUE(send(7, 1, 0, 2 * theirs_).ok());
  EXPECT_EQ(send(7, 1, 0, 2 * theirs_).code(), Code::kProtocol);  // twice
}

}  // namespace
}  // namespace penstock::test
