// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace penstock {

// Fills `bytes` from the kernel's generator (getrandom): tokens, incarnations, region keys.
void random_bytes(std::span<unsigned char> bytes);
std::uint64_t random_u64();  // never 0

// SplitMix64 (Steele, Lea, Flood 2014): a seeded, reproducible stream for tests, fault plans and
// initializers. One 64-bit state; equal seeds give equal streams on every machine.
class SeededRandom {
 public:
  explicit SeededRandom(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() { return mix(state_ += 0x9e3779b97f4a7c15U); }
  // Uniform in [0, bound); bound > 0. The modulo bias is below 2⁻³² for bounds below 2³².
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  // True with probability `per_million` / 10⁶.
  bool chance(std::uint32_t per_million) { return below(1'000'000) < per_million; }

  static constexpr std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

}  // namespace penstock
