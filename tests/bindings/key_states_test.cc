// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/key_states.h"

#include <gmock/gmock.h>

#include "kernels/optimizer_text.h"
#include "tests/bindings/job.h"

namespace penstock::test {
namespace {

using ::testing::HasSubstr;

constexpr Key kKey = 11;
constexpr std::size_t kElements = 10'007;

// One worker and servers that answer for their keys' state.
struct StateJob {
  StateJob(std::uint32_t servers, std::uint32_t lanes, std::uint64_t slice_bytes,
           const std::string& optimizer, DType parameter_dtype = DType::kFloat32)
      : parameters(kElements * dtype_bytes(parameter_dtype)), gradients(kElements) {
    for (std::uint32_t i = 0; i < servers; ++i)
      answering.push_back(std::make_unique<RequestServer>([this, i](Request request) {
        handle_key_state(job->servers[i]->server(), std::move(request));
      }));
    JobOptions options;
    options.transport = "loopback";
    options.servers = servers;
    options.lanes = lanes;
    options.slice_bytes = slice_bytes;
    for (auto& server : answering) options.server_messages.push_back(server.get());
    options.worker_messages = {&requests};
    job = std::make_unique<Job>(options);
    for (std::uint32_t i = 0; i < servers; ++i) answering[i]->attach(job->servers[i]->server());
    requests.attach(worker());
    Tensor tensor;
    tensor.key = kKey;
    tensor.spec.shape = {kElements};
    tensor.spec.parameter_dtype = parameter_dtype;
    tensor.spec.optimizer = *parse_optimizer_spec(optimizer);
    tensor.spec.from_worker_0 = false;
    tensor.spec.initializer = {InitializerSpec::kNormal, 0, 1, 3};
    tensor.gradients = std::as_writable_bytes(std::span(gradients));
    tensor.parameters = parameters;
    EXPECT_TRUE(worker().declare({tensor}).ok());
  }
  Worker& worker() { return job->workers[0]->worker(); }

  // Rounds `from` to `to` of this job, with the gradients of steps from + ahead …
  void run(Round from, Round to, std::uint64_t ahead = 0) {
    for (Round round = from; round <= to; ++round) {
      for (std::size_t i = 0; i < kElements; ++i)
        gradients[i] = 0.01F * static_cast<float>((i * 7 + (round + ahead) * 13) % 101) - 0.5F;
      ASSERT_TRUE(worker().push_pull(kKey, round).ok());
      const Status waited = worker().wait(kKey, round);
      ASSERT_TRUE(waited.ok()) << waited.to_string();
    }
  }
  KeyState read() {
    Result<KeyState> state = read_key_state(requests, worker(), kKey, job->deadline_ns());
    EXPECT_TRUE(state.ok()) << state.status().to_string();
    return std::move(*state);
  }
  Status write(std::uint64_t steps, const KeyState& state) {
    std::vector<PlaneView> planes;
    for (const KeyState::Plane& plane : state.planes)
      planes.push_back({plane.element_bytes, plane.bytes});
    return write_key_state(requests, worker(), kKey, steps, planes, job->deadline_ns());
  }
  void leave() { EXPECT_TRUE(worker().leave().ok()); }

  std::vector<std::byte> parameters;
  std::vector<float> gradients;
  Requests requests;
  std::vector<std::unique_ptr<RequestServer>> answering;
  std::unique_ptr<Job> job;
};

struct Case {
  const char* optimizer;
  std::size_t planes;
  std::uint64_t other_slice_bytes;  // of the job that goes on
  DType parameter_dtype = DType::kFloat32;
};

struct KeyStates : ::testing::TestWithParam<Case> {};

TEST_P(KeyStates, AnotherJobGoesOnWithTheSameBits) {
  const Case& at = GetParam();
  StateJob first(2, 2, 4096, at.optimizer, at.parameter_dtype);
  first.run(1, 3);
  const KeyState saved = first.read();
  EXPECT_EQ(saved.steps, 3U);
  ASSERT_EQ(saved.planes.size(), 1 + at.planes);
  if (at.parameter_dtype == DType::kFloat32) {
    EXPECT_EQ(saved.planes[0].bytes, first.parameters);
  }
  first.run(4, 6);
  first.leave();

  StateJob second(1, 3, at.other_slice_bytes, at.optimizer, at.parameter_dtype);
  second.run(1, 1);  // something to be overwritten, and round numbers that differ
  const Status written = second.write(saved.steps, saved);
  ASSERT_TRUE(written.ok()) << written.to_string();
  const KeyState again = second.read();
  EXPECT_EQ(again.steps, saved.steps);
  for (std::size_t i = 0; i < saved.planes.size(); ++i)
    EXPECT_EQ(again.planes[i].bytes, saved.planes[i].bytes) << "plane " << i;
  second.run(2, 4, 2);
  EXPECT_EQ(second.parameters, first.parameters);
  EXPECT_EQ(second.read().steps, 6U);
  second.leave();
}

INSTANTIATE_TEST_SUITE_P(
    Optimizers, KeyStates,
    ::testing::Values(Case{"sgd", 0, 16384}, Case{"adam:learning_rate=0.1", 2, 16384},
                      Case{"adamw:learning_rate=0.1", 2, 1024, DType::kBfloat16},
                      // Noise of the rounding follows the step, norms the slices.
                      Case{"adamw:state_dtype=bf16", 2, 16384}, Case{"lamb", 2, 4096}));

TEST(KeyStatesRefuse, WhatDoesNotFit) {
  StateJob job(1, 2, 4096, "momentum");
  job.run(1, 1);
  KeyState state = job.read();
  ASSERT_EQ(state.planes.size(), 2U);
  KeyState less = state;
  less.planes.pop_back();
  EXPECT_THAT(job.write(1, less).to_string(), HasSubstr("key 11 has 2 planes"));
  less = state;
  less.planes[1].bytes.resize(8);
  EXPECT_THAT(job.write(1, less).to_string(), HasSubstr("plane 1 has 10007 elements of 4 bytes"));
  EXPECT_EQ(read_key_state(job.requests, job.worker(), 99, job.job->deadline_ns()).status().code(),
            Code::kNotFound);
  EXPECT_EQ(job.read().planes[1].bytes, state.planes[1].bytes) << "nothing was changed";
  job.leave();
}

TEST(KeyStatesRefuse, AdafactorInWords) {
  StateJob job(1, 1, 4096, "adafactor");
  job.run(1, 1);
  const auto read = read_key_state(job.requests, job.worker(), kKey, job.job->deadline_ns());
  EXPECT_EQ(read.status().code(), Code::kUnsupported);
  EXPECT_THAT(read.status().to_string(), HasSubstr("adafactor"));
  job.leave();
}

// The worker has pushed, but its partner has not: the round is open.
TEST(KeyStatesRefuse, AKeyWhoseRoundRuns) {
  std::unique_ptr<Job> job;
  RequestServer answering(
      [&](Request request) { handle_key_state(job->servers[0]->server(), std::move(request)); });
  Requests requests;
  Requests unused;
  JobOptions options;
  options.transport = "loopback";
  options.workers = 2;
  options.server_messages = {&answering};
  options.worker_messages = {&requests, &unused};
  job = std::make_unique<Job>(options);
  answering.attach(job->servers[0]->server());
  requests.attach(job->workers[0]->worker());
  std::vector<std::vector<float>> buffers(4, std::vector<float>(64));
  job->each_worker([&](Rank rank) {
    Tensor tensor;
    tensor.key = kKey;
    tensor.spec.shape = {64};
    tensor.gradients = std::as_writable_bytes(std::span(buffers[rank * 2]));
    tensor.parameters = std::as_writable_bytes(std::span(buffers[rank * 2 + 1]));
    EXPECT_TRUE(job->workers[rank]->worker().declare({tensor}).ok());
  });
  ASSERT_TRUE(job->workers[0]->worker().push_pull(kKey, 1).ok());
  Status refused;
  // Until the push is there nothing is running.
  while (refused.ok() && SystemClock().now_ns() < job->deadline_ns())
    refused =
        read_key_state(requests, job->workers[0]->worker(), kKey, job->deadline_ns()).status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.to_string(), HasSubstr("round 1 is running"));
  ASSERT_TRUE(job->workers[1]->worker().push_pull(kKey, 1).ok());
  for (auto& worker : job->workers) EXPECT_TRUE(worker->worker().wait(kKey, 1).ok());
  EXPECT_TRUE(read_key_state(requests, job->workers[0]->worker(), kKey, job->deadline_ns()).ok());
  for (auto& worker : job->workers) EXPECT_TRUE(worker->worker().leave().ok());
}

}  // namespace
}  // namespace penstock::test
