// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one server keeps of a key between rounds, taken out or put back: for checkpoints.

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/protocol/types.h"
#include "kernels/table.h"
#include "transport/base/thread_annotations.h"

namespace penstock {

// Elements of the flattened tensor. Its bytes: the parameters in float32, then each plane of the
// optimizer's state, see state_bytes().
struct SliceRecord {
  std::uint64_t begin = 0;
  std::uint64_t count = 0;
  bool operator==(const SliceRecord&) const = default;
};

// One such job, shared by the lanes. No round of the key may be running: kInvalidArgument. A key
// that this server has no slice of gives none. After an error while writing the key's state is
// undefined until it is written again.
class KeyCopy {
 public:
  enum class Kind : std::uint8_t { kDescribe, kRead, kWrite };  // kDescribe: read without bytes

  KeyCopy(Kind kind_of, Key key_of) : kind(kind_of), key(key_of) {}

  const Kind kind;
  const Key key;
  // Called once, on the thread of the lane that is last; nothing changes any more then.
  std::function<void(KeyCopy&)> done;

  // kWrite: given, and only read. Else what was found.
  std::uint64_t steps = 0;                 // that the optimizer has made, by its own count
  std::vector<SliceRecord> slices;         // in any order, each whole
  std::vector<std::byte> bytes;            // slice after slice; kWrite: see `given`
  std::span<const std::byte> given;        // kWrite: instead of `bytes`; outlives the job
  std::vector<std::uint32_t> plane_bytes;  // of an element: 4, then the state's; found by all
  Status status;

  // ---- the server's ----
  void begin(const KernelTable& table, std::uint32_t lanes) {
    kernels = &table;
    missing_.store(lanes, std::memory_order_relaxed);
  }
  // A lane is through; it has not touched anything without mutex().
  void lane_done() {
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (done) done(*this);
    over_.store(true, std::memory_order_release);  // pairs with over()
  }
  bool over() const { return over_.load(std::memory_order_acquire); }
  Mutex& mutex() { return mutex_; }  // of what is found, while lanes are at work
  const KernelTable* kernels = nullptr;
  Round next = 0;  // the key's, as the first lane found it; 0: none has yet

 private:
  Mutex mutex_;
  std::atomic<std::uint32_t> missing_{0};
  std::atomic<bool> over_{false};
};

}  // namespace penstock
