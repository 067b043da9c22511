// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/region_table.h"

#include <thread>

#include "transport/base/clock.h"
#include "transport/base/log.h"
#include "transport/base/random.h"

namespace penstock::shm {
namespace {

// A copy takes well below a millisecond; a peer that has not finished one after this is stopped.
constexpr TimeNs kPatienceNs = 5 * kSecond;

std::uint64_t make_key(std::uint32_t slot) {
  return (random_u64() & ~std::uint64_t{UINT32_MAX}) | std::uint64_t{1} << 63 | slot;
}

}  // namespace

Result<std::unique_ptr<RegionTable>> RegionTable::create(Incarnation incarnation, bool by_kernel) {
  PENSTOCK_ASSIGN_OR_RETURN(SharedMemory published,
                            create_shared(kMaxRegions * sizeof(RegionEntry), Others::kRead));
  return std::unique_ptr<RegionTable>(
      new RegionTable(incarnation, std::move(published), by_kernel));
}

RegionTable::RegionTable(Incarnation incarnation, SharedMemory published, bool by_kernel)
    : incarnation_(incarnation),
      published_(std::move(published)),
      probe_(by_kernel ? random_u64() | 1U : 0),
      slots_(std::make_unique<Slot[]>(kMaxRegions)) {
  free_.reserve(kMaxRegions);
  for (std::uint32_t i = kMaxRegions; i > 0; --i) free_.push_back(i - 1);
}

Result<std::span<std::byte>> RegionTable::allocate(std::size_t bytes, Access access,
                                                   PeerScope scope) {
  const bool read_only = access != Access::kLocal && !allows_write(access);
  PENSTOCK_ASSIGN_OR_RETURN(
      SharedMemory memory,
      create_shared_on_huge_pages(bytes, read_only ? Others::kRead : Others::kReadAndWrite));
  const std::span<std::byte> usable = memory.mapping.bytes().first(bytes);
  MutexLock lock(mutex_);
  blocks_.emplace(usable.data(), Block{next_block_++, std::move(memory), access, scope});
  return usable;
}

void RegionTable::free(std::span<std::byte> block) {
  MutexLock lock(mutex_);
  CHECK(blocks_.erase(block.data()) == 1, "memory is freed that was not allocated");
}

bool RegionTable::shared(std::uint64_t key) const {
  const Slot& slot = slots_[slot_of(key)];
  return (slot.block != nullptr || slot.cuda != nullptr) && slot.access != Access::kLocal;
}

// A block is mapped as a whole, so it is shared only if everyone it would be shared with may have
// all of it.
const RegionTable::Block* RegionTable::block_for(const Slot& slot) const {
  auto found = blocks_.upper_bound(slot.bytes.data());
  if (found == blocks_.begin()) return nullptr;
  const Block& block = std::prev(found)->second;
  const std::span<std::byte> all = block.memory.mapping.bytes();
  const std::byte* const end = slot.bytes.data() + slot.bytes.size();
  if (end > all.data() + all.size()) return nullptr;
  if (block.scope != kAnyScope && block.scope != slot.scope) return nullptr;
  const bool writable = block.access == Access::kLocal || allows_write(block.access);
  return allows_write(slot.access) && !writable ? nullptr : &block;
}

Result<std::uint64_t> RegionTable::add(std::span<std::byte> bytes, Access access, PeerScope scope,
                                       const CudaShare* cuda) {
  MutexLock lock(mutex_);
  if (free_.empty()) return Status(Code::kExhausted, "register memory: too many regions");
  const std::uint32_t index = free_.back();
  free_.pop_back();
  Slot& slot = slots_[index];
  slot.access = access;
  slot.scope = scope;
  slot.key = make_key(index);
  slot.bytes = bytes;
  slot.block = cuda == nullptr ? block_for(slot) : nullptr;
  slot.cuda = cuda;
  const std::uint64_t key = slot.key;
  RegionEntry& told = entry(key);
  told.base.store(reinterpret_cast<std::uintptr_t>(bytes.data()), std::memory_order_relaxed);
  told.length.store(bytes.size(), std::memory_order_relaxed);
  told.rights.store(pack({access, shared(key), cuda == nullptr, scope}), std::memory_order_relaxed);
  told.key.store(key, std::memory_order_release);  // pairs with Peer::look_up()
  // Pairs with the acquire in enter(): who sees the bit sees the fields. Not a store: someone who
  // found the slot free may be counted in the word at this moment.
  slot.state.fetch_or(kValid, std::memory_order_release);
  return key;
}

void RegionTable::remove(std::uint64_t key) {
  Slot& slot = slots_[slot_of(key)];
  CHECK(slot.key == key, "a region is removed twice");
  slot.state.fetch_and(~kValid, std::memory_order_acq_rel);
  // Before the peers' `inside` is looked at: whoever we do not see inside sees this.
  entry(key).key.store(0, std::memory_order_seq_cst);
  // Pairs with the release of a guard.
  while (slot.state.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  wait_for_peers(slot_of(key));
  MutexLock lock(mutex_);
  free_.push_back(slot_of(key));
}

void RegionTable::wait_for_peers(std::uint32_t slot) {
  const SystemClock clock;
  const TimeNs until_ns = clock.now_ns() + kPatienceNs;
  const auto is_inside = [slot](const Peer& peer) {
    return peer.segment.words().inside.load(std::memory_order_seq_cst) == slot + 1;
  };
  const auto wait_for = [&](const Peer& peer) {
    while (is_inside(peer) && !peer.gone()) {
      if (clock.now_ns() > until_ns) {
        PENSTOCK_LOG_ERROR("shm: a peer has not left a region after 5 s; going on without it");
        return;
      }
      std::this_thread::yield();
    }
  };
  MutexLock lock(peers_mutex_);
  for (const Peer* peer : peers_) wait_for(*peer);
  for (const std::unique_ptr<Peer>& peer : retired_) wait_for(*peer);
  std::erase_if(retired_, [](const std::unique_ptr<Peer>& peer) { return peer->gone(); });
}

void RegionTable::watch(const Peer& peer) {
  MutexLock lock(peers_mutex_);
  peers_.push_back(&peer);
}

void RegionTable::retire(std::unique_ptr<Peer> peer) {
  MutexLock lock(peers_mutex_);
  std::erase(peers_, peer.get());
  std::erase_if(retired_, [](const std::unique_ptr<Peer>& old) { return old->gone(); });
  retired_.push_back(std::move(peer));
}

RegionEntry& RegionTable::entry(std::uint64_t key) const {
  return published_.mapping.as<RegionEntry>()[slot_of(key)];
}

RegionTable::Guard RegionTable::enter(std::uint64_t key) const {
  if (slot_of(key) >= kMaxRegions) return {};
  Slot& slot = slots_[slot_of(key)];
  const std::uint32_t before = slot.state.fetch_add(1, std::memory_order_acquire);
  Guard guard(&slot.state);
  if ((before & kValid) == 0 || slot.key != key) return {};
  return guard;
}

Code RegionTable::resolve(std::uint64_t key, Access wanted, PeerScope scope, std::uint64_t offset,
                          std::uint64_t length, std::span<std::byte>& bytes, Guard& guard) const {
  guard = enter(key);
  if (!guard) return Code::kStale;
  const Slot& slot = slots_[slot_of(key)];
  if (slot.scope != kAnyScope && slot.scope != scope) return Code::kAccess;
  if (!covers(slot.access, wanted)) return Code::kAccess;
  if (slot.cuda != nullptr && wanted != Access::kLocal) return Code::kUnsupported;
  // Subtraction, not addition: offset + length may wrap.
  if (offset > slot.bytes.size() || length > slot.bytes.size() - offset) return Code::kAccess;
  bytes = slot.bytes.subspan(offset, length);
  return Code::kOk;
}

UniqueFd RegionTable::grant(std::uint64_t key, PeerScope scope, Message& grant) {
  std::span<std::byte> bytes;
  Guard guard;
  grant.code = resolve(key, Access::kLocal, scope, 0, 0, bytes, guard);
  if (grant.code != Code::kOk) return {};
  const Slot& slot = slots_[slot_of(key)];
  grant.access = slot.access;
  grant.length = slot.bytes.size();
  if (slot.access == Access::kLocal) return {};
  if (slot.cuda != nullptr) {
    grant.memory = MemoryKind::kCuda;
    grant.cuda = slot.cuda->handle;
    grant.block_bytes = slot.cuda->allocation_bytes;
    grant.block_offset = slot.cuda->offset;
    slot.cuda->gpu.copy(grant.gpu.data(), grant.gpu.size());
  }
  if (slot.block == nullptr) return {};
  const SharedMemory& memory = slot.block->memory;
  Result<UniqueFd> fd = allows_write(slot.access)
                            ? Result<UniqueFd>(UniqueFd(::dup(memory.fd.get())))
                            : read_only(memory.fd.get());
  if (!fd.ok() || !fd->valid()) return {};  // out of descriptors: it is reached by copying twice
  grant.block = slot.block->id;
  grant.block_bytes = memory.mapping.bytes().size();
  grant.block_offset =
      static_cast<std::uint64_t>(slot.bytes.data() - memory.mapping.bytes().data());
  return std::move(*fd);
}

}  // namespace penstock::shm
