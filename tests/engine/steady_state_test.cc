// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// What a round costs besides its slices, once the first ones are over: nothing.

#include "tests/engine/steady_state.h"

#include "tests/support/allocation_counter.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 30'000;
constexpr std::uint64_t kBytes = kElements * sizeof(float);
constexpr Key kShared = 1;  // its buffers lie in memory of Worker::allocate
constexpr Key kOwn = 2;     // its buffers are the caller's
constexpr std::uint32_t kWorkers = 2;
constexpr Round kWarmUp = 20;
constexpr Round kRounds = 50;

struct Buffers {
  std::shared_ptr<const MemoryRegion> shared;
  Counted own{kElements};
  std::span<float> shared_gradients() const {
    return {reinterpret_cast<float*>(shared->bytes().data()), kElements};
  }
  std::span<const float> shared_parameters() const {
    return {reinterpret_cast<const float*>(shared->bytes().data()) + kElements, kElements};
  }
};

std::vector<Buffers> declare(HandJob& job) {
  std::vector<Buffers> buffers(kWorkers);
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    buffers[rank].shared = job.worker(rank).allocate(2 * kBytes).value();
    Tensor own = buffers[rank].own.tensor(kOwn);
    Tensor shared = own;
    shared.key = kShared;
    shared.gradients = buffers[rank].shared->bytes().first(kBytes);
    shared.parameters = buffers[rank].shared->bytes().subspan(kBytes);
    tickets.push_back(job.worker(rank).begin_declare({shared, own}));
  }
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    const Status declared = job.finish(rank, tickets[rank]);
    EXPECT_TRUE(declared.ok()) << declared.to_string();
  }
  return buffers;
}

void run_round(HandJob& job, std::vector<Buffers>& buffers, Round round) {
  for (Rank rank = 0; rank < kWorkers; ++rank) {
    buffers[rank].shared_gradients()[round] = 1;
    buffers[rank].own.gradients[round] = 2;
    ASSERT_TRUE(job.worker(rank).push_pull(kShared, round).ok());
    ASSERT_TRUE(job.worker(rank).push_pull(kOwn, round).ok());
  }
  ASSERT_TRUE(job.run_until(
      [&] { return job.round_finished(kShared, round) && job.round_finished(kOwn, round); }));
}

// Every round adds one to the elements of the rounds so far.
void expect_counted(const std::vector<Buffers>& buffers, Round rounds) {
  for (const Buffers& worker : buffers)
    for (Round round = 1; round <= rounds; ++round) {
      const auto times = static_cast<float>(kWorkers * (rounds - round + 1));
      ASSERT_EQ(worker.shared_parameters()[round], -times) << "element " << round;
      ASSERT_EQ(worker.own.parameters[round], -2 * times) << "element " << round;
    }
}

TEST_P(SteadyState, ARoundNeedsNothingButItsSlices) {
  const SteadyNetwork network = GetParam().make();
  HandJobOptions options;
  options.transport = GetParam().name;
  options.open = network.open;
  options.workers = kWorkers;
  options.lanes = 2;
  HandJob job(options);
  std::vector<Buffers> buffers = declare(job);
  for (Round round = 1; round <= kWarmUp; ++round) run_round(job, buffers, round);

  const std::uint64_t in_place = job.server(0).gradients_in_place();
  const SetUpCalls calls = job.set_up_calls();
  const std::uint64_t nic_registrations = network.registrations();
  const std::uint64_t control_messages = job.control_messages();
  EXPECT_TRUE(calls.connects >= 4 && calls.accepts >= 4 && calls.allocations > 0 &&
              calls.registrations > 0 && control_messages > 0)
      << "what is not counted cannot be missed: " << calls.to_string();
  const std::uint64_t provider_messages = job.device_counter("control_messages");
  // Heartbeats are control's and may allocate. One that ends a round is received in the next.
  Round quiet = 0;
  std::uint64_t heartbeats = UINT64_MAX;  // when the round before this one began
  for (Round round = kWarmUp + 1; round <= kWarmUp + kRounds; ++round) {
    const std::uint64_t allocations = heap_allocations();
    const std::uint64_t heartbeats_now = job.heartbeats();
    run_round(job, buffers, round);
    if (job.heartbeats() == heartbeats) {
      ++quiet;
      EXPECT_EQ(heap_allocations() - allocations, 0U) << "round " << round;
    }
    heartbeats = heartbeats_now;
  }
  EXPECT_GT(quiet, 0U);
  EXPECT_EQ(job.server(0).gradients_in_place() > in_place, GetParam().maps);
  EXPECT_EQ((job.set_up_calls() - calls).to_string(), SetUpCalls{}.to_string());
  EXPECT_EQ(network.registrations(), nic_registrations);
  EXPECT_EQ(job.control_messages(), control_messages);
  EXPECT_EQ(job.device_counter("control_messages"), provider_messages);
  expect_counted(buffers, kWarmUp + kRounds);
}

INSTANTIATE_TEST_SUITE_P(Transports, SteadyState,
                         ::testing::Values(SteadyTransport{"loopback", true},
                                           SteadyTransport{"tcp", false},
                                           SteadyTransport{"shm", true},
                                           SteadyTransport{"auto", true}),
                         name_of_transport);

}  // namespace
}  // namespace penstock::test
