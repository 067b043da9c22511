// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What one side of a connection tells the other, in shared memory. Each side writes its own segment
// only and maps the peer's read-only:
//
//   0        Words: three cache lines, below
//   4 KiB    ring of kRingEntries entries
//   68 KiB   outgoing: kAreaBytes, the bytes of writes and messages that are copied twice
//   +1 MiB   answers:  kAreaBytes, the bytes the peer asked to read, each where it reserved them
//
// Pages that no one uses are never taken. Everything in a peer's segment is hostile: counters are
// compared with what is possible, entries are fetched once and then checked.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/shm/shared_memory.h"

namespace penstock::shm {

inline constexpr std::size_t kRingEntries = 1024;
inline constexpr std::size_t kAreaBytes = std::size_t{1} << 20;
// Pieces of what is copied twice: both copies go on at once, from cache to cache.
inline constexpr std::size_t kPieceBytes = std::size_t{64} << 10;
// What one side leaves to the other at once of what the kernel copies.
inline constexpr std::size_t kFetchBytes = std::size_t{256} << 10;
inline constexpr std::uint32_t kMaxMessageBytes = 20U << 10;
static_assert(kMaxMessageBytes <= kPieceBytes && kPieceBytes * 4 <= kAreaBytes);

// A word of shared memory. Stores and loads that order one side's against the other's: see each.
class SharedWord {
 public:
  std::uint64_t load(std::memory_order order) const { return ref().load(order); }
  void store(std::uint64_t value, std::memory_order order) { ref().store(value, order); }

 private:
  std::atomic_ref<std::uint64_t> ref() const { return std::atomic_ref(value_); }
  alignas(8) mutable std::uint64_t value_ = 0;
};

struct Words {
  // Read by the peer at every poll.
  alignas(64) SharedWord published;  // entries in the ring since the beginning
  SharedWord consumed;               // of the peer's ring
  SharedWord mail;                   // times the peer should look at the socket
  // 0 while the owner polls; otherwise the number of its sleep times kSleepUnit, and kAwaitsAcks if
  // it has posts that wait for `consumed`. The peer rings once for each sleep.
  // Stored before the owner looks at the peer's first line once more, loaded after the peer wrote
  // that line, both sequentially consistent: one of the two sees the other.
  alignas(64) SharedWord asleep;
  // 1: the owner can read the peer's memory through the kernel, so entries may be kFetch.
  SharedWord fetches;
  // 1: the connection has ended for the owner, and what its fetches name is lent no longer. Stored
  // before its posts are completed, loaded after each fetch, both sequentially consistent.
  SharedWord ended;
  // 1 + slot of the peer's region that the owner's copy is inside of, else 0. Stored before the
  // owner looks whether the region is alive; see RegionTable::remove().
  alignas(64) SharedWord inside;
};

inline constexpr std::uint64_t kAwaitsAcks = 1, kSleepUnit = 2;  // of Words::asleep

enum class EntryKind : std::uint8_t {
  kNotice = 1,   // the bytes are in place: an immediate
  kPiece = 2,    // bytes of a write, in the outgoing area at `position`
  kRead = 3,     // a request for bytes, to be put in the answers area at `position`
  kMessage = 4,  // a message, in the outgoing area
  kFetch = 5,    // bytes of a write, in the sender's process at address `position`
};
inline constexpr std::uint8_t kEntryImmediate = 1;  // flag: report `immediate` and `total`

struct Entry {
  EntryKind kind{};
  std::uint8_t flags = 0;
  std::uint16_t unused = 0;
  std::uint32_t immediate = 0;
  std::uint64_t length = 0;    // bytes of this entry
  std::uint64_t total = 0;     // bytes of the whole write, for the immediate
  std::uint64_t key = 0;       // of the receiver's region
  std::uint64_t offset = 0;    // in that region
  std::uint64_t position = 0;  // in the area, or an address
  std::uint64_t unused_words[2] = {};
};
using EntryWords = std::array<std::uint64_t, 8>;
static_assert(sizeof(Entry) == 64 && sizeof(EntryWords) == 64);

inline constexpr std::size_t kRingOffset = 4096;
inline constexpr std::size_t kOutgoingOffset = kRingOffset + kRingEntries * sizeof(Entry);
inline constexpr std::size_t kAnswersOffset = kOutgoingOffset + kAreaBytes;
inline constexpr std::size_t kSegmentBytes = kAnswersOffset + kAreaBytes;
static_assert(sizeof(Words) <= kRingOffset && std::has_single_bit(kRingEntries));

// A mapped segment, of either side.
class Segment {
 public:
  Segment() = default;
  explicit Segment(Mapping mapping) : mapping_(std::move(mapping)) {}

  Words& words() const { return *mapping_.as<Words>(); }
  std::byte* outgoing(std::uint64_t position) const {
    return mapping_.as<std::byte>(kOutgoingOffset + position);
  }
  std::byte* answers(std::uint64_t position) const {
    return mapping_.as<std::byte>(kAnswersOffset + position);
  }

  // Word by word, each fetched exactly once: what was checked is what is used.
  Entry load(std::uint64_t index) const {
    EntryWords copy;
    const SharedWord* const from = ring(index);
    for (std::size_t i = 0; i < copy.size(); ++i)
      copy[i] = from[i].load(std::memory_order_relaxed);  // after `published`, an acquire
    return std::bit_cast<Entry>(copy);
  }
  void store(std::uint64_t index, const Entry& entry) const {
    const auto words = std::bit_cast<EntryWords>(entry);
    SharedWord* const to = ring(index);
    for (std::size_t i = 0; i < words.size(); ++i) to[i].store(words[i], std::memory_order_relaxed);
  }

 private:
  SharedWord* ring(std::uint64_t index) const {
    return mapping_.as<SharedWord>(kRingOffset + (index % kRingEntries) * sizeof(Entry));
  }
  Mapping mapping_;
};

}  // namespace penstock::shm
