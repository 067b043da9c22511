// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/key_copy.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/engine/hand_job.h"

namespace penstock::test {
namespace {

struct Copied {
  std::shared_ptr<KeyCopy> copy = std::make_shared<KeyCopy>(KeyCopy::Kind::kRead, 1);
  bool done = false;
};

// Slices finish a round one by one, on lanes that run apart: a copy of then would be torn.
TEST(KeyCopy, IsOfOneRoundOrRefused) {
  constexpr Round kRounds = 4;
  constexpr std::uint64_t kElements = 400 * 1024;
  HandJobOptions options;
  options.lanes = 2;
  HandJob job(options);
  Counted counted(kElements);
  ASSERT_TRUE(job.finish(0, job.worker(0).begin_declare({counted.tensor(1)})).ok());
  std::fill(counted.gradients.begin(), counted.gradients.end(), 1.0F);
  std::size_t refused = 0;
  const auto copy = [&] {
    Copied copied;
    copied.copy->done = [&](KeyCopy&) { copied.done = true; };
    ASSERT_TRUE(job.server(0).copy_key(copied.copy).ok());
    ASSERT_TRUE(job.run_until([&] { return copied.done; }));
    const KeyCopy& found = *copied.copy;
    if (!found.status.ok()) {
      EXPECT_EQ(found.status.code(), Code::kInvalidArgument) << found.status.to_string();
      ++refused;
      return;
    }
    ASSERT_EQ(found.bytes.size(), kElements * sizeof(float));
    for (std::size_t i = 0; i < kElements; i += 128) {
      float value = 1;
      std::memcpy(&value, found.bytes.data() + i * sizeof value, sizeof value);
      ASSERT_EQ(value, -static_cast<float>(found.steps)) << "element " << i;
    }
  };
  for (Round round = 1; round <= kRounds; ++round) {
    ASSERT_TRUE(job.worker(0).push_pull(1, round).ok());
    while (!job.round_finished(1, round)) {
      copy();
      ASSERT_FALSE(HasFatalFailure());
    }
  }
  EXPECT_GT(refused, 0U);
  const std::size_t before = refused;
  copy();
  EXPECT_EQ(refused, before) << "nothing runs any more";
}

}  // namespace
}  // namespace penstock::test
