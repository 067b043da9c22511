// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The topk codec; the same code on every target.

#include "kernels/codec/codec.h"

namespace penstock {

// Sends the codec_kept() largest magnitudes of residual + gradient, of equal ones those with the
// lower index. Allocates nothing. Reads the slice up to four times, from the cache after the first.
void encode_top_k(const CodecSpec& spec, const float* gradient, float* residual,
                  std::uint8_t* encoded, std::size_t count);

// Walks the entries of one encoded slice of `count` elements from front to back. What comes from
// the wire may be anything: an entry whose index is not larger than the one before it or not below
// `count` is skipped.
class TopKReader {
 public:
  TopKReader() = default;
  TopKReader(const CodecSpec& spec, const std::uint8_t* encoded, std::size_t count)
      : encoded_(encoded), kept_(codec_kept(spec, count)), count_(count) {}

  // Adds the entries below `end` that were not read yet to sums[index − begin].
  void add(std::size_t begin, std::size_t end, float* sums);

 private:
  const std::uint8_t* encoded_ = nullptr;
  std::size_t kept_ = 0;
  std::size_t count_ = 0;
  std::size_t position_ = 0;
  std::size_t lowest_ = 0;  // index that may come next
};

}  // namespace penstock
