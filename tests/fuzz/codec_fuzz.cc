// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Encoded gradients of any bytes: every target reads within them and gives the bits of "scalar".
// Input: a kind, a block, elements (two bytes), then the encoded bytes of two workers.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/codec/codec.h"
#include "kernels/table.h"
#include "transport/base/check.h"

using namespace penstock;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  CodecSpec spec;
  spec.kind = static_cast<CodecKind>(1 + data[0] % (kCodecKinds - 1));
  spec.block = kMinCodecBlock << data[1] % 7;
  spec.fraction = (data[1] % 16 + 1) / 16.0;
  CHECK(validate(spec).ok());
  const std::size_t count = 1 + (data[2] + std::size_t{256} * data[3]) % 3000;
  const std::size_t bytes = encoded_bytes(spec, count);
  std::vector<std::vector<std::uint8_t>> encoded(2, std::vector<std::uint8_t>(bytes));
  const std::uint8_t* from = data + 4;
  for (auto& gradient : encoded) {
    const auto left = static_cast<std::size_t>(data + size - from);
    std::copy_n(from, std::min(bytes, left), gradient.begin());
    from += std::min(bytes, left);
  }
  const void* const gradients[] = {encoded[0].data(), encoded[1].data()};
  std::vector<float> expected;
  for (const KernelTable* kernels : available_kernels()) {
    std::vector<float> parameters(count), values(count);
    UpdateArgs args;
    args.gradients = gradients;
    args.workers = 2;
    args.codec = &spec;
    args.parameters = parameters.data();
    args.count = count;
    kernels->update(fold(default_optimizer(OptimizerKind::kSgd), 1), args);
    kernels->codecs->decode(spec, gradients[0], values.data(), count);
    parameters.insert(parameters.end(), values.begin(), values.end());
    if (expected.empty()) expected = parameters;
    CHECK(std::memcmp(expected.data(), parameters.data(), expected.size() * sizeof(float)) == 0,
          "{} differs", kernels->target);
  }
  return 0;
}
