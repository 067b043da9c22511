// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Which bytes of this process peers may reach, and how.
//
// Blocks are what allocate_memory() made: memory of its own that peers can map. A region inside a
// block is shared: its owner hands the block out once the peer may have it, and from then on the
// peer's copies go straight in. Any other region is reached through the kernel, or through the
// owner, who copies for the peer. GPU memory is lent to be mapped and never copied here. What says
// "alive" is therefore double: `state` for our own threads, and a word of shared memory that all
// peers map read-only and look at before each copy.
//
// What a peer must know of a region is in a table of shared memory that all peers map read-only;
// it copies to and from any region by the kernel where the system allows that.
//
// Removal clears both and waits for whoever is inside: our threads are counted in `state`; a peer
// says in its segment which region it is inside of. A copy is short. A peer that is dead is known
// by its socket; one that stands still inside is given kPatienceNs.
// Thread: any.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "transport/api/types.h"
#include "transport/base/thread_annotations.h"
#include "transport/hardware/cuda_buffer.h"
#include "transport/shm/peer.h"

namespace penstock::shm {

class RegionTable {
 public:
  // `by_kernel`: peers may reach what is not shared through the kernel.
  static Result<std::unique_ptr<RegionTable>> create(Incarnation incarnation, bool by_kernel);

  // Shared memory that registrations may lie in. What peers of which scope may do with all of it is
  // bounded by `access` and `scope`; with kLocal, by the registrations alone.
  Result<std::span<std::byte>> allocate(std::size_t bytes, Access access, PeerScope scope);
  void free(std::span<std::byte> block);  // its regions are removed

  // The key: the slot and random bits, never 0. `cuda`: how GPU memory is lent; null for the
  // host's, else it lives until remove(). kExhausted.
  Result<std::uint64_t> add(std::span<std::byte> bytes, Access access, PeerScope scope,
                            const CudaShare* cuda = nullptr);
  // Does it lie in memory that peers can map? Of a key that was added and not removed.
  bool shared(std::uint64_t key) const;
  // When it returns the key is dead and nobody copies to or from the bytes.
  void remove(std::uint64_t key);

  // Keeps a region from being removed while it lives; empty when the key was unknown.
  class Guard {
   public:
    Guard() = default;
    Guard(Guard&& other) noexcept : users_(std::exchange(other.users_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      std::swap(users_, other.users_);
      return *this;
    }
    ~Guard() {
      // Pairs with the acquire in remove(): our accesses are over when it sees the count fall.
      if (users_ != nullptr) users_->fetch_sub(1, std::memory_order_release);
    }
    explicit operator bool() const { return users_ != nullptr; }

   private:
    friend class RegionTable;
    explicit Guard(std::atomic<std::uint32_t>* users) : users_(users) {}
    std::atomic<std::uint32_t>* users_ = nullptr;
  };

  // The bytes of a peer's request, held by `guard`. kStale, kAccess; kUnsupported for copies to and
  // from GPU memory. Lock-free.
  Code resolve(std::uint64_t key, Access wanted, PeerScope scope, std::uint64_t offset,
               std::uint64_t length, std::span<std::byte>& bytes, Guard& guard) const;

  // What a peer of `scope` is told about a region: fills a kGrant, and the descriptor to send if
  // the region is shared.
  UniqueFd grant(std::uint64_t key, PeerScope scope, Message& grant);

  // A peer's copies are waited for from here until it has gone, also past retire(), which takes
  // over what a connection leaves behind.
  void watch(const Peer& peer);
  void retire(std::unique_ptr<Peer> peer);

  int published_fd() const { return published_.fd.get(); }
  // A word of ours that peers may try to read; 0 when they shall not.
  const std::uint64_t& probe() const { return probe_; }
  Incarnation incarnation() const { return incarnation_; }

 private:
  static constexpr std::uint32_t kValid = 1U << 31;

  struct Block {
    std::uint64_t id = 0;
    SharedMemory memory;
    Access access{};
    PeerScope scope = kAnyScope;
  };
  struct Slot {
    std::atomic<std::uint32_t> state{0};  // kValid | threads of ours inside
    Access access{};
    PeerScope scope = kAnyScope;
    std::uint64_t key = 0;
    std::span<std::byte> bytes;
    const Block* block = nullptr;  // that may be shared because of this region
    const CudaShare* cuda = nullptr;
  };

  RegionTable(Incarnation incarnation, SharedMemory published, bool by_kernel);
  const Block* block_for(const Slot& slot) const REQUIRES(mutex_);
  Guard enter(std::uint64_t key) const;
  RegionEntry& entry(std::uint64_t key) const;
  void wait_for_peers(std::uint32_t slot);

  const Incarnation incarnation_;
  const SharedMemory published_;
  const std::uint64_t probe_;
  const std::unique_ptr<Slot[]> slots_;
  Mutex mutex_;
  std::vector<std::uint32_t> free_ GUARDED_BY(mutex_);
  std::map<const std::byte*, Block> blocks_ GUARDED_BY(mutex_);  // by their first byte
  std::uint64_t next_block_ GUARDED_BY(mutex_) = 1;
  Mutex peers_mutex_;
  std::vector<const Peer*> peers_ GUARDED_BY(peers_mutex_);
  std::vector<std::unique_ptr<Peer>> retired_ GUARDED_BY(peers_mutex_);
};

inline std::uint32_t slot_of(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

}  // namespace penstock::shm
