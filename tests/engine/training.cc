// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/engine/training.h"

#include <gtest/gtest.h>

#include "kernels/codec/codec_text.h"
#include "kernels/table.h"
#include "transport/base/random.h"

namespace penstock::test {
namespace {

std::vector<TensorSpec> specs() {
  std::vector<TensorSpec> all;
  const auto add = [&](OptimizerKind kind, std::uint64_t elements, DType gradient, DType parameter,
                       Reduce reduce) {
    TensorSpec spec;
    spec.shape = {elements};
    spec.optimizer = default_optimizer(kind);
    spec.gradient_dtype = gradient;
    spec.parameter_dtype = parameter;
    spec.reduce = reduce;
    spec.from_worker_0 = all.size() % 2 == 0;
    spec.initializer = {InitializerSpec::kNormal, 0, 1, all.size()};
    return &all.emplace_back(spec);
  };
  using enum OptimizerKind;
  using enum DType;
  add(kAdamW, 9001, kFloat32, kFloat32, Reduce::kMean);
  add(kAdamW, 5, kFloat32, kFloat32, Reduce::kSum);
  add(kSgd, 4099, kBfloat16, kBfloat16, Reduce::kMean);
  add(kMomentum, 777, kFloat16, kFloat32, Reduce::kSum);
  add(kAdamW, 3000, kBfloat16, kFloat16, Reduce::kMean);
  add(kRmsProp, 2048, kFloat32, kBfloat16, Reduce::kMean);
  add(kFtrl, 1, kFloat32, kFloat32, Reduce::kSum);
  OptimizerSpec* optimizer = &add(kAdaGrad, 8193, kFloat32, kFloat32, Reduce::kMean)->optimizer;
  optimizer->state_dtype = StateDType::kBfloat16;
  optimizer->rounding_seed = 5;
  optimizer->initial_accumulator = 0.3;
  add(kSgd, 4098, kBfloat16, kFloat32, Reduce::kSum)->optimizer.compensation = 0.5;
  optimizer = &add(kAdam, 3001, kBfloat16, kBfloat16, Reduce::kMean)->optimizer;
  optimizer->state_dtype = StateDType::kBfloat16;
  optimizer->compensation = 0.5;
  for (const char* codec :
       {"fp8_e4m3:block=64", "fp8_e5m2", "int8:block=4096", "2bit", "1bit", "topk:fraction=0.3"})
    add(kAdam, 4100, kFloat32, all.size() % 2 == 0 ? kBfloat16 : kFloat32, Reduce::kMean)->codec =
        *parse_codec_spec(codec);
  // More elements than one lane takes: their norms go through the servers' exchange.
  add(kLars, 30'001, kBfloat16, kFloat32, Reduce::kMean);
  add(kLamb, 30'002, kFloat32, kBfloat16, Reduce::kMean);
  add(kLamb, 300, kFloat16, kFloat32, Reduce::kSum)->optimizer.clip_norm = 0.5;
  add(kLars, 4097, kFloat32, kFloat16, Reduce::kMean)->codec = *parse_codec_spec("int8");
  add(kLamb, 4098, kFloat32, kFloat32, Reduce::kMean)->codec = *parse_codec_spec("topk");
  add(kAdamW, 9000, kFloat32, kFloat32, Reduce::kMean)->optimizer.clip_global_norm = 1;
  optimizer = &add(kMomentum, 1, kBfloat16, kFloat32, Reduce::kMean)->optimizer;
  optimizer->clip_global_norm = 1;
  optimizer->clip = 0.5;
  optimizer->state_dtype = StateDType::kBfloat16;
  add(kAssign, 4101, kBfloat16, kBfloat16, Reduce::kMean);
  add(kAssign, 5000, kFloat16, kFloat32, Reduce::kSum)->gradient_scale = 0.25;
  add(kAssign, 4102, kFloat32, kFloat32, Reduce::kMean)->codec = *parse_codec_spec("int8");
  return all;
}

struct Keys {
  std::vector<std::vector<std::byte>> gradients, parameters;

  explicit Keys(const std::vector<TensorSpec>& all) {
    for (const TensorSpec& spec : all) {
      gradients.emplace_back(spec.gradient_bytes());
      parameters.emplace_back(spec.parameter_bytes());
    }
  }
  std::vector<Tensor> tensors(const std::vector<TensorSpec>& all) {
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < all.size(); ++i)
      tensors.push_back({i, all[i], gradients[i], parameters[i], false});
    return tensors;
  }
};

// Small numbers of the type: no NaN, no infinity.
void fill(std::span<std::byte> bytes, DType dtype, SeededRandom& random) {
  const std::uint64_t count = bytes.size() / dtype_bytes(dtype);
  std::vector<float> values(count);
  for (float& value : values)
    value = static_cast<float>(static_cast<double>(random.below(2001)) / 1000.0 - 1.0);
  best_kernels().encode(values.data(), bytes.data(), dtype, count);
}

}  // namespace

Trained train(const HandJobOptions& options, Round rounds) {
  HandJob job(options);
  const std::vector<TensorSpec> all = specs();
  SeededRandom random(17);
  std::vector<Keys> keys(options.workers, Keys(all));
  std::vector<Ticket> tickets;
  for (Rank rank = 0; rank < options.workers; ++rank) {
    for (std::size_t i = 0; i < all.size(); ++i)
      fill(keys[rank].parameters[i], all[i].parameter_dtype, random);
    tickets.push_back(job.worker(rank).begin_declare(keys[rank].tensors(all)));
  }
  Trained trained;
  for (Rank rank = 0; rank < options.workers; ++rank) {
    trained.status = job.finish(rank, tickets[rank]);
    if (!trained.status.ok()) return trained;
  }
  for (Round round = 0; round <= rounds; ++round) {
    for (Rank rank = 0; round > 0 && rank < options.workers; ++rank)
      for (std::size_t i = 0; i < all.size(); ++i) {
        fill(keys[rank].gradients[i], all[i].gradient_dtype, random);
        const bool nothing = (rank + i + round) % 5 == 0;
        EXPECT_TRUE((nothing ? job.worker(rank).push_nothing(i, round)
                             : job.worker(rank).push_pull(i, round))
                        .ok());
      }
    EXPECT_TRUE(job.run_until([&] {
      for (Key key = 0; key < all.size(); ++key)
        if (!job.round_finished(key, round)) return false;
      return true;
    })) << "round "
        << round;
    std::vector<std::byte>& now = trained.rounds.emplace_back();
    for (const auto& parameters : keys[0].parameters)
      now.insert(now.end(), parameters.begin(), parameters.end());
    EXPECT_EQ(keys.back().parameters, keys[0].parameters) << "round " << round;
  }
  return trained;
}

}  // namespace penstock::test
