// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/codec/top_k.h"

#include <array>

#include "kernels/codec/elements.h"

namespace penstock {
namespace {

constexpr std::uint32_t kMagnitude = 0x7fff'ffff;

std::uint32_t magnitude_of(float value) { return std::bit_cast<std::uint32_t>(value) & kMagnitude; }

// Magnitudes above `smallest` are kept and, of those equal to it, the first `ties`.
struct Cut {
  std::uint32_t smallest;
  std::size_t ties;
};

// One step of a radix selection: of the values whose bits above `shift + width` are those of `cut`,
// finds the next `width` bits of the one that is `cut.ties`-th from the top.
template <std::uint32_t kShift, std::uint32_t kWidth>
void refine(const float* values, std::size_t count, Cut& cut) {
  std::array<std::uint32_t, std::size_t{1} << kWidth> histogram{};
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = magnitude_of(values[i]);
    if (((magnitude ^ cut.smallest) >> (kShift + kWidth)) == 0)
      ++histogram[magnitude >> kShift & ((1U << kWidth) - 1)];
  }
  std::uint32_t digit = (1U << kWidth) - 1;
  for (; histogram[digit] < cut.ties; --digit) cut.ties -= histogram[digit];
  cut.smallest |= digit << kShift;
}

}  // namespace

void encode_top_k(const CodecSpec& spec, const float* gradient, float* residual,
                  std::uint8_t* encoded, std::size_t count) {
  if (count == 0) return;
  for (std::size_t i = 0; i < count; ++i) residual[i] = corrected(residual[i], gradient[i]);
  const std::size_t kept = codec_kept(spec, count);
  Cut cut = {0, kept};
  refine<20, 11>(residual, count, cut);
  refine<10, 10>(residual, count, cut);
  refine<0, 10>(residual, count, cut);
  std::uint8_t* const values = encoded + kept * sizeof(std::uint32_t);
  std::size_t sent = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t magnitude = magnitude_of(residual[i]);
    if (magnitude < cut.smallest) continue;
    if (magnitude == cut.smallest && cut.ties == 0) continue;
    if (magnitude == cut.smallest) --cut.ties;
    const auto index = static_cast<std::uint32_t>(i);
    std::memcpy(encoded + sent * sizeof(index), &index, sizeof(index));
    std::memcpy(values + sent * sizeof(float), &residual[i], sizeof(float));
    residual[i] = 0;
    ++sent;
  }
}

void TopKReader::add(std::size_t begin, std::size_t end, float* sums) {
  for (; position_ < kept_; ++position_) {
    std::uint32_t index = 0;
    std::memcpy(&index, encoded_ + position_ * sizeof(index), sizeof(index));
    if (index < lowest_ || index >= count_) continue;
    if (index >= end) return;
    float value = 0;
    std::memcpy(&value, encoded_ + kept_ * sizeof(index) + position_ * sizeof(value),
                sizeof(value));
    sums[index - begin] += value;
    lowest_ = index + std::size_t{1};
  }
}

}  // namespace penstock
