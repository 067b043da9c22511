// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which rail a write goes over: the one that is predicted to finish it first. Pure.
//
// Link rates predict, bytes under way correct: a rail that is slower than its link keeps its bytes
// for longer, so it looks later and gets fewer. No rate is measured, so none can be out of date.

#include <cstddef>
#include <cstdint>
#include <span>

namespace penstock::verbs {

struct RailLoad {
  std::uint64_t outstanding_bytes = 0;  // handed to the device and not completed
  double speed = 1;                     // of the link, in units all rails share
};

// Index of the rail on which `bytes` more are done first; the first of equals. `rails` is not
// empty.
std::size_t earliest_finish(std::span<const RailLoad> rails, std::uint64_t bytes);

}  // namespace penstock::verbs
