// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Gradients in memory that the transport allocated are read by the server where they are.

#include <gtest/gtest.h>

#include "kernels/table.h"
#include "tests/engine/hand_job.h"

namespace penstock::test {
namespace {

constexpr std::uint64_t kElements = 30'000;
constexpr std::uint64_t kBytes = kElements * sizeof(float);

struct InPlace : ::testing::TestWithParam<const char*> {
  InPlace() : job(options()) {}
  static HandJobOptions options() {
    HandJobOptions options;
    options.transport = GetParam();
    options.workers = 2;
    options.servers = 2;
    options.lanes = 2;
    return options;
  }
  // A tensor in `memory` from `offset` on: gradients, then parameters.
  static Tensor tensor_in(const MemoryRegion& memory, Key key, std::uint64_t offset = 0) {
    Counted shape(kElements);
    Tensor tensor = shape.tensor(key);
    tensor.gradients = memory.bytes().subspan(offset, kBytes);
    tensor.parameters = memory.bytes().subspan(offset + kBytes, kBytes);
    return tensor;
  }
  static std::span<float> floats(const MemoryRegion& memory, std::uint64_t offset) {
    return {reinterpret_cast<float*>(memory.bytes().data() + offset), kElements};
  }
  std::uint64_t in_place() {
    return job.server(0).gradients_in_place() + job.server(1).gradients_in_place();
  }
  HandJob job;
};

TEST_P(InPlace, RoundsMoveNoGradientBytes) {
  std::vector<std::shared_ptr<const MemoryRegion>> memory;
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank) {
    auto allocated = job.worker(rank).allocate(2 * kBytes);
    ASSERT_TRUE(allocated.ok()) << allocated.status().to_string();
    memory.push_back(std::move(*allocated));
    tickets.push_back(job.worker(rank).begin_declare({tensor_in(*memory[rank], 1)}));
  }
  for (Rank rank = 0; rank < 2; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
  std::vector<float> expected(kElements);
  for (Round round = 1; round <= 5; ++round) {
    for (Rank rank = 0; rank < 2; ++rank) {
      for (std::uint64_t i = 0; i < kElements; ++i) {
        const auto gradient = static_cast<float>((i + round + rank) % 5);
        floats(*memory[rank], 0)[i] = gradient;
        expected[i] -= gradient;
      }
      ASSERT_TRUE(job.worker(rank).push_pull(1, round).ok());
    }
    ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, round); }));
    for (Rank rank = 0; rank < 2; ++rank)
      for (std::uint64_t i = 0; i < kElements; ++i)
        ASSERT_EQ(floats(*memory[rank], kBytes)[i], expected[i]) << "element " << i;
  }
  // Every slice of every round from the second on; the first may overtake the servers' word.
  const std::uint64_t slices = (kBytes + 4095) / 4096;
  EXPECT_GE(in_place(), 4 * 2 * (slices - 4));
}

TEST_P(InPlace, MemoryOfTheCallersOwnIsCopied) {
  std::vector<Counted> tensors(2, Counted(kElements));
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank)
    tickets.push_back(job.worker(rank).begin_declare({tensors[rank].tensor(1)}));
  for (Rank rank = 0; rank < 2; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
  for (Rank rank = 0; rank < 2; ++rank) {
    tensors[rank].gradients.assign(kElements, 1);
    ASSERT_TRUE(job.worker(rank).push_pull(1, 1).ok());
  }
  ASSERT_TRUE(job.run_until([&] { return job.round_finished(1, 1); }));
  EXPECT_EQ(tensors[0].parameters[7], -2);
  EXPECT_EQ(in_place(), 0U);
}

TEST_P(InPlace, AViewReadsTheParametersWhereTheServersKeepThem) {
  for (const DType dtype : {DType::kFloat32, DType::kBfloat16}) {
    const Key key = 10 + static_cast<Key>(dtype);
    std::vector<std::shared_ptr<const MemoryRegion>> memory;
    std::vector<Ticket> tickets;
    for (Rank rank = 0; rank < 2; ++rank) {
      memory.push_back(job.worker(rank).allocate(2 * kBytes).value());
      Tensor tensor = tensor_in(*memory[rank], key);
      tensor.spec.parameter_dtype = dtype;
      tensor.view = true;
      tensor.parameters = tensor.parameters.first(rank == 0 ? tensor.spec.parameter_bytes() : 0);
      tickets.push_back(job.worker(rank).begin_declare({tensor}));
    }
    for (Rank rank = 0; rank < 2; ++rank) {
      const Status declared = job.finish(rank, tickets[rank]);
      ASSERT_TRUE(declared.ok()) << declared.to_string();
    }
    for (Round round = 1; round <= 3; ++round) {
      for (Rank rank = 0; rank < 2; ++rank) {
        for (float& gradient : floats(*memory[rank], 0)) gradient = 2;
        ASSERT_TRUE(job.worker(rank).push_pull(key, round).ok());
      }
      ASSERT_TRUE(job.run_until([&] { return job.round_finished(key, round); }));
    }
    for (Rank rank = 0; rank < 2; ++rank) {
      const auto pieces = job.worker(rank).view(key);
      ASSERT_TRUE(pieces.ok()) << pieces.status().to_string();
      std::uint64_t next = 0;
      for (const ParameterPiece& piece : *pieces) {
        ASSERT_EQ(piece.first_element, next);
        std::vector<float> values(piece.bytes.size() / dtype_bytes(dtype));
        best_kernels().decode(piece.bytes.data(), dtype, values.data(), values.size());
        for (const float value : values) ASSERT_EQ(value, -12.0F);
        next += values.size();
      }
      EXPECT_EQ(next, kElements);
    }
  }
}

TEST_P(InPlace, AKeyWithoutAViewHasNone) {
  std::vector<Counted> tensors(2, Counted(kElements));
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank)
    tickets.push_back(job.worker(rank).begin_declare({tensors[rank].tensor(1)}));
  for (Rank rank = 0; rank < 2; ++rank) ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
  EXPECT_EQ(job.worker(0).view(1).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(job.worker(0).view(99).status().code(), Code::kNotFound);
}

TEST_P(InPlace, OneRegistrationServesEveryTensorInIt) {
  constexpr std::uint64_t kTensors = 20;
  std::vector<std::shared_ptr<const MemoryRegion>> memory;
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < 2; ++rank) {
    memory.push_back(job.worker(rank).allocate(kTensors * 2 * kBytes).value());
    std::vector<Tensor> tensors;
    for (Key key = 0; key < kTensors; ++key)
      tensors.push_back(tensor_in(*memory[rank], key, key * 2 * kBytes));
    tickets.push_back(job.worker(rank).begin_declare(std::move(tensors)));
  }
  for (Rank rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(job.finish(rank, tickets[rank]).ok());
    EXPECT_EQ(job.worker(rank).registrations(), 1U);
  }
}

TEST(View, FailsByNameWhereTheTransportMapsNothing) {
  HandJobOptions options;
  options.transport = "tcp";
  HandJob job(options);
  Counted tensor(kElements);
  Tensor wanted = tensor.tensor(1);
  wanted.view = true;
  const Status status = job.finish(0, job.worker(0).begin_declare({wanted}));
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.to_string().find("key 1"), std::string::npos) << status.to_string();
  EXPECT_NE(status.hint().find("without a view"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Transports, InPlace, ::testing::Values("loopback", "shm", "auto"),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace penstock::test
