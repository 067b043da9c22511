// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// The frame parser against arbitrary bytes: however the stream is cut, it yields the same frames
// and the same error, and holds at most twice what arrived. The first byte picks the cut.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "transport/api/control.h"
#include "transport/base/check.h"
#include "transport/control/frame.h"

namespace {

struct Outcome {
  std::vector<std::vector<std::byte>> frames;
  std::string error;
  bool operator==(const Outcome&) const = default;
};

Outcome parse(std::span<const std::byte> stream, std::size_t piece) {
  penstock::control::FrameParser parser;
  Outcome outcome;
  std::size_t fed = 0;
  while (!stream.empty() && outcome.error.empty()) {
    auto input = stream.first(std::min(piece, stream.size()));
    stream = stream.subspan(input.size());
    fed += input.size();
    std::span<const std::byte> frame;
    while (true) {
      auto whole = parser.next(input, frame);
      CHECK(parser.buffered_capacity() <= 2 * fed);
      if (!whole.ok()) outcome.error = whole.status().what();
      if (!whole.ok() || !*whole) break;
      CHECK(frame.size() <= penstock::kMaxControlFrameBytes);
      outcome.frames.emplace_back(frame.begin(), frame.end());
    }
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const auto stream = std::as_bytes(std::span(data + 1, size - 1));
  const Outcome whole = parse(stream, size);
  CHECK(parse(stream, std::size_t{data[0]} % 32 + 1) == whole);
  CHECK(parse(stream, 1) == whole);
  return 0;
}
