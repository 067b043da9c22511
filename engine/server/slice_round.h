// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The round of one slice: whose contribution is here, whose is missing. Bulk-synchronous.
// Two rounds can be open: the one being collected and the next (slots by parity), never more.
// The watermark of a worker is next_round(worker): the first of its rounds that has not arrived.

#include <array>
#include <cstdint>

#include "engine/protocol/immediate.h"
#include "engine/protocol/limits.h"
#include "engine/protocol/types.h"

namespace penstock {

class SliceRound {
 public:
  enum class Arrival : std::uint8_t {
    kAccepted,
    kDuplicate,  // this round of this worker is here already
    kRetired,    // the round is over: a replay, ignored
    kFuture,     // a worker this far ahead breaks the protocol
  };

  Arrival arrive(Rank worker, Round round, SliceKind kind) {
    if (round < round_) return Arrival::kRetired;
    if (round > round_ + 1) return Arrival::kFuture;
    Open& open = open_[round & 1U];
    const std::uint64_t bit = std::uint64_t{1} << worker;
    if ((open.arrived & bit) != 0) return Arrival::kDuplicate;
    open.arrived |= bit;
    if (kind == SliceKind::kNothing || kind == SliceKind::kNotFinite) open.nothing |= bit;
    if (kind == SliceKind::kNotFinite) open.not_finite |= bit;
    if (kind == SliceKind::kInPlace) open.in_place |= bit;
    return Arrival::kAccepted;
  }

  Round round() const { return round_; }  // the one being collected
  bool full(std::uint64_t live) const { return live != 0 && (live & ~current().arrived) == 0; }
  // Live workers whose slot holds something to add.
  std::uint64_t contributors(std::uint64_t live) const {
    return current().arrived & ~current().nothing & live;
  }
  // Of those, the ones whose gradient is not in their slot but still in their own buffer.
  std::uint64_t in_place() const { return current().in_place; }
  // Live workers whose gradient is not finite; they are no contributors.
  std::uint64_t not_finite(std::uint64_t live) const { return current().not_finite & live; }
  // Workers whose push of the round that was last retired is in it, or, before that, nobody.
  void retire() {
    open_[round_ & 1U] = {};
    ++round_;
  }
  Round next_round(Rank worker) const {
    const std::uint64_t bit = std::uint64_t{1} << worker;
    if ((open_[round_ & 1U].arrived & bit) == 0) return round_;
    return (open_[(round_ + 1) & 1U].arrived & bit) == 0 ? round_ + 1 : round_ + 2;
  }

 private:
  struct Open {
    std::uint64_t arrived = 0;
    std::uint64_t nothing = 0;
    std::uint64_t in_place = 0;
    std::uint64_t not_finite = 0;
  };
  const Open& current() const { return open_[round_ & 1U]; }

  Round round_ = 0;
  std::array<Open, 2> open_{};
};

}  // namespace penstock
