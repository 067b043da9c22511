// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The ledger: what every parameter must be, counted in whole numbers. Gradients are small integers
// that depend on (worker, key, round, element), the optimizer is sgd with learning rate 1, so
//   parameter = initial − Σ over rounds Σ over workers of gradient
// exactly, in float32 and in any order. A lost, doubled or misplaced contribution shows and can be
// named.

#include <cstdint>

#include "engine/protocol/types.h"
#include "transport/base/random.h"

namespace penstock::test {

inline std::int64_t ledger_gradient(Rank worker, Key key, Round round, std::uint64_t element) {
  const std::uint64_t mixed =
      SeededRandom::mix(SeededRandom::mix(key * 977 + worker) ^ (round << 32) ^ element);
  return static_cast<std::int64_t>(mixed % 15) - 7;
}

inline std::int64_t ledger_initial(Key key, std::uint64_t element) {
  return static_cast<std::int64_t>(SeededRandom::mix(key ^ (element << 20)) % 201) - 100;
}

// Every third key goes by 2bit with a whole threshold, so that what is sent and what is kept back
// are whole numbers, too. A slice encoded twice for one round would show.
inline constexpr std::int64_t kLedgerThreshold = 4;
inline bool ledger_encoded(Key key) { return key % 3 == 1; }

// What 2bit sends of a residual to which the gradient was added already.
inline std::int64_t ledger_sent(std::int64_t& residual) {
  const std::int64_t sent = residual >= kLedgerThreshold    ? kLedgerThreshold
                            : residual <= -kLedgerThreshold ? -kLedgerThreshold
                                                            : 0;
  residual -= sent;
  return sent;
}

// A worker pushes "nothing" now and then.
inline bool ledger_nothing(Rank worker, Key key, Round round) {
  return SeededRandom::mix(worker * 31 + key * 7 + round) % 11 == 0;
}

}  // namespace penstock::test
