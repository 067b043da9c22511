// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "engine/protocol/immediate.h"
#include "engine/protocol/limits.h"
#include "engine/protocol/messages.h"
#include "engine/protocol/shard_map.h"
#include "transport/base/random.h"

namespace penstock::test {
namespace {

Declaration tensor(Key key, std::uint64_t elements) {
  Declaration declaration;
  declaration.key = key;
  declaration.spec.name = "t";
  declaration.spec.shape = {elements};
  return declaration;
}

TEST(Slice, CutsEverythingOnceAndAligned) {
  for (const std::uint64_t elements : {1U, 63U, 64U, 255U, 256U, 257U, 10'000U, 1'000'003U}) {
    const std::vector<Slice> slices = cut(elements, 4, 4096);
    std::uint64_t next = 0;
    for (const Slice& slice : slices) {
      EXPECT_EQ(slice.begin, next);
      EXPECT_EQ(slice.begin % kSliceAlignment, 0U);
      EXPECT_LT(slice.count, 1024U + 256U);  // a slice, and a tail of less than a quarter
      next += slice.count;
    }
    EXPECT_EQ(next, elements);
  }
}

TEST(ShardMap, SpreadsOneTensorOverServersFirst) {
  ShardMap map(4, 2, 4096);
  const std::vector<Declaration> batch = {tensor(1, 4096)};  // four slices
  const Result<Placement> placement = map.add(batch);
  ASSERT_TRUE(placement.ok());
  for (std::uint32_t server = 0; server < 4; ++server) {
    EXPECT_EQ(placement->lanes[server * 2].slices.size(), 1U);
    EXPECT_EQ(placement->lanes[server * 2 + 1].slices.size(), 0U);
  }
}

TEST(ShardMap, BalancesBytesAndIsTheSameEverywhere) {
  SeededRandom random(7);
  std::vector<Declaration> batch;
  for (Key key = 0; key < 200; ++key) batch.push_back(tensor(key, 1 + random.below(50'000)));
  ShardMap map(3, 2, 4096), other(3, 2, 4096);
  const Result<Placement> placement = map.add(batch);
  const Result<Placement> again = other.add(batch);
  ASSERT_TRUE(placement.ok() && again.ok());
  std::uint64_t most = 0, least = UINT64_MAX;
  for (std::size_t lane = 0; lane < placement->lanes.size(); ++lane) {
    const LanePlacement& mine = placement->lanes[lane];
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < mine.slices.size(); ++i) {
      bytes += mine.slices[i].elements.count * 4;
      EXPECT_EQ(mine.slices[i].slice, again->lanes[lane].slices[i].slice);
      EXPECT_EQ(mine.slices[i].elements, again->lanes[lane].slices[i].elements);
    }
    most = std::max(most, bytes);
    least = std::min(least, bytes);
  }
  EXPECT_LT(most - least, 8192U);
}

TEST(ShardMap, SlotsOfALaneNeverOverlap) {
  ShardMap map(2, 2, 4096);
  const std::vector<Declaration> batch = {tensor(1, 10'000), tensor(2, 33), tensor(3, 7777)};
  const Result<Placement> placement = map.add(batch);
  ASSERT_TRUE(placement.ok());
  for (const LanePlacement& lane : placement->lanes) {
    std::map<std::uint64_t, std::uint64_t> taken;
    for (const SlicePlace& place : lane.slices) {
      EXPECT_GE(place.slot_bytes, place.elements.count * 4);
      taken[place.slot_offset] = place.slot_offset + 2 * place.slot_bytes;
    }
    std::uint64_t end = 0;
    for (const auto& [from, to] : taken) {
      EXPECT_GE(from, end);
      end = to;
    }
    EXPECT_LE(end, lane.slots_bytes);
  }
}

TEST(ShardMap, ReusesIndicesOfRemovedKeys) {
  ShardMap map(1, 1, 4096);
  ASSERT_TRUE(map.add(std::vector{tensor(1, 5000)}).ok());
  EXPECT_EQ(map.add(std::vector{tensor(1, 5000)}).status().code(), Code::kAlreadyExists);
  ASSERT_TRUE(map.remove(1).ok());
  EXPECT_EQ(map.remove(1).code(), Code::kNotFound);
  const Result<Placement> placement = map.add(std::vector{tensor(2, 5000)});
  ASSERT_TRUE(placement.ok());
  for (const SlicePlace& place : placement->lanes[0].slices) EXPECT_LT(place.slice, 5U);
}

TEST(Immediate, RoundTripsAndExpandsNearbyRounds) {
  const Immediate immediate =
      decode_immediate(encode_immediate(SliceKind::kNothing, 37, kMaxSlicesPerLane - 1));
  EXPECT_EQ(immediate.kind, SliceKind::kNothing);
  EXPECT_EQ(immediate.slice, kMaxSlicesPerLane - 1);
  for (Round expected = 0; expected < 100; ++expected)
    for (Round round = expected > 7 ? expected - 7 : 0; round < expected + 7; ++round)
      EXPECT_EQ(expand_round(expected, static_cast<std::uint8_t>(round & 15U)), round)
          << expected << " " << round;
}

TEST(TensorSpec, RefusesWhatCannotBe) {
  const auto what = [](const Declaration& declaration) { return validate(declaration).what(); };
  Declaration empty = tensor(4, 1);
  empty.spec.shape = {};
  EXPECT_NE(what(empty).find("key 4 't'"), std::string::npos);
  EXPECT_NE(what(tensor(4, 0)).find("empty dimension"), std::string::npos);
  Declaration huge = tensor(4, 1);
  huge.spec.shape = {std::uint64_t{1} << 40, std::uint64_t{1} << 40};
  EXPECT_FALSE(validate(huge).ok());
  Declaration rate = tensor(4, 8);
  rate.spec.optimizer.learning_rate = -1;
  EXPECT_FALSE(validate(rate).ok());
  EXPECT_TRUE(validate(tensor(4, 8)).ok());
  for (const double bad : {0.0, -1.0, double(NAN), double(INFINITY), 1e-300}) {
    Declaration scaled = tensor(4, 8);
    scaled.spec.gradient_scale = bad;
    EXPECT_NE(what(scaled).find("key 4 't': gradient_scale is "), std::string::npos) << bad;
  }
  Declaration policy = tensor(4, 8);
  policy.spec.not_finite = static_cast<NotFinite>(3);
  EXPECT_NE(what(policy).find("not_finite is 3"), std::string::npos);
}

TEST(TensorSpec, NamesTheFirstDifference) {
  TensorSpec a = tensor(1, 6).spec, b = a;
  EXPECT_EQ(difference(a, b), "");
  b.gradient_dtype = DType::kBfloat16;
  EXPECT_EQ(difference(a, b), "gradient dtype fp32 against bf16");
  b = a;
  b.shape = {2, 3};
  EXPECT_EQ(difference(a, b), "shape [6] against [2, 3]");
  b = a;
  b.not_finite = NotFinite::kFail;
  EXPECT_EQ(difference(a, b), "not_finite accept against fail");
  b = a;
  b.gradient_scale = 0.5;
  EXPECT_EQ(difference(a, b), "gradient_scale 1 against 0.5");
  b = a;
  b.optimizer.l1 = 0.25;
  EXPECT_EQ(difference(a, b), "the optimizer's l1 0 against 0.25");
  b = a;
  b.optimizer.state_dtype = StateDType::kBfloat16;
  EXPECT_EQ(difference(a, b), "optimizer state of 4 against 2 bytes");
}

TEST(Messages, DeclarationsSurviveTheWire) {
  Declaration declaration = tensor(9, 12);
  declaration.spec.shape = {3, 4};
  declaration.spec.gradient_dtype = DType::kBfloat16;
  declaration.spec.optimizer = {.kind = OptimizerKind::kRmsProp,
                                .momentum_form = MomentumForm::kScaledVelocity,
                                .epsilon_form = EpsilonForm::kInside,
                                .ftrl_form = FtrlForm::kDoubled,
                                .centred = true,
                                .learning_rate = 0.1,
                                .momentum = 0.2,
                                .beta1 = 0.3,
                                .beta2 = 0.4,
                                .rho = 0.5,
                                .epsilon = 0.6,
                                .weight_decay = 0.7,
                                .clip = 0.75,
                                .lambda1 = 0.8,
                                .lambda2 = 0.9,
                                .beta = 1.1,
                                .initial_accumulator = 1.2,
                                .schedule = {.kind = ScheduleKind::kPiecewise,
                                             .period = 3,
                                             .factor = 0.25,
                                             .power = 2,
                                             .final = 0.125,
                                             .warmup = 5,
                                             .warmup_start = 0.5,
                                             .boundary_count = 2,
                                             .boundaries = {7, 9},
                                             .multipliers = {0.1, 0.01}},
                                .l1 = 1.3,
                                .compensation = 1.4,
                                .state_dtype = StateDType::kBfloat16,
                                .rounding_seed = 15};
  declaration.spec.not_finite = NotFinite::kSkip;
  declaration.spec.gradient_scale = 0.0625;
  declaration.spec.priority = -3;
  declaration.spec.from_worker_0 = false;
  declaration.spec.initializer = {InitializerSpec::kNormal, 0.5, 2, 99};
  wire::CollectiveT message;
  message.kind = wire::CollectiveKind::Declare;
  message.declarations.push_back(to_wire(declaration));
  Result<wire::MessageT> decoded = decode(encode_body(std::move(message)));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  const auto* collective = decoded->body.AsCollective();
  ASSERT_NE(collective, nullptr);
  const Result<Declaration> back = from_wire(collective->declarations.at(0));
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(*back == declaration);
}

TEST(Messages, GarbageAndTruncationAreRefused) {
  wire::LaneOpenedT opened;
  opened.next.resize(100, 7);
  opened.token.resize(16, 1);
  const std::vector<std::byte> good = encode_body(std::move(opened));
  ASSERT_TRUE(decode(good).ok());
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_EQ(decode(std::span(good).first(length)).status().code(), Code::kProtocol) << length;
  SeededRandom random(5);
  for (int i = 0; i < 20'000; ++i) {  // whatever a flipped byte does, it is checked or harmless
    std::vector<std::byte> bad = good;
    bad[random.below(bad.size())] = static_cast<std::byte>(random.next());
    (void)decode(bad);
  }
}

}  // namespace
}  // namespace penstock::test
