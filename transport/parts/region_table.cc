// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/parts/region_table.h"

#include <thread>

#include "transport/base/random.h"

namespace penstock::parts {
namespace {

// A key is its slot's number and 32 random bits, so that a stale or made-up one does not match.
std::uint32_t slot_of(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

std::uint64_t make_key(std::uint32_t slot) {
  return (random_u64() & ~std::uint64_t{UINT32_MAX}) | std::uint64_t{1} << 63 | slot;
}

}  // namespace

RegionTable::RegionTable(Incarnation incarnation, std::uint32_t capacity)
    : incarnation_(incarnation), capacity_(capacity), slots_(std::make_unique<Slot[]>(capacity)) {
  free_.reserve(capacity);
  for (std::uint32_t i = capacity; i > 0; --i) free_.push_back(i - 1);
}

Result<std::uint64_t> RegionTable::add(std::span<std::byte> bytes, Access access, PeerScope scope) {
  std::uint32_t index = 0;
  {
    MutexLock lock(mutex_);
    if (free_.empty()) return Status(Code::kExhausted, "register memory: too many regions");
    index = free_.back();
    free_.pop_back();
  }
  Slot& slot = slots_[index];
  slot.access = access;
  slot.scope = scope;
  slot.key = make_key(index);
  slot.base = bytes.data();
  slot.length = bytes.size();
  const std::uint64_t key = slot.key;
  // Pairs with the acquire in enter(): who sees the bit sees the fields. Not a store: a landing
  // that found the slot free may be counted in the word at this moment.
  slot.state.fetch_or(kValid, std::memory_order_release);
  return key;
}

void RegionTable::retire(std::uint64_t key) {
  Slot& slot = slots_[slot_of(key)];
  CHECK(slot.key == key, "a region is removed twice");
  slot.state.fetch_and(~kValid, std::memory_order_acq_rel);
}

bool RegionTable::landed(std::uint64_t key) const {
  // Pairs with the release in Guard::release().
  return slots_[slot_of(key)].state.load(std::memory_order_acquire) == 0;
}

void RegionTable::recycle(std::uint64_t key) {
  MutexLock lock(mutex_);
  free_.push_back(slot_of(key));
}

void RegionTable::remove(std::uint64_t key) {
  retire(key);
  while (!landed(key)) std::this_thread::yield();
  recycle(key);
}

RegionTable::Guard RegionTable::enter(std::uint64_t key) const {
  if (slot_of(key) >= capacity_) return {};
  Slot& slot = slots_[slot_of(key)];
  const std::uint32_t before = slot.state.fetch_add(1, std::memory_order_acquire);
  Guard guard(&slot.state);
  if ((before & kValid) == 0 || slot.key != key) return {};
  return guard;
}

RegionTable::Claim RegionTable::resolve(const Request& request) const {
  if (request.incarnation != incarnation_) return {.code = Code::kStale, .bytes = {}, .guard = {}};
  Guard guard = enter(request.key);
  if (!guard) return {.code = Code::kStale, .bytes = {}, .guard = {}};
  const Slot& slot = slots_[slot_of(request.key)];
  const bool foreign = slot.scope != kAnyScope && slot.scope != request.scope;
  // Subtraction, not addition: offset + length may wrap.
  const bool outside =
      request.offset > slot.length || request.length > slot.length - request.offset;
  if (foreign || outside || !covers(slot.access, request.wanted))
    return {.code = Code::kAccess, .bytes = {}, .guard = {}};
  return {.code = Code::kOk,
          .bytes = {slot.base + request.offset, request.length},
          .guard = std::move(guard)};
}

}  // namespace penstock::parts
