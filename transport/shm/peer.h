// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The other side of a connection as this process sees it: its socket and what it shared at hello.

#include <memory>

#include "transport/shm/message.h"
#include "transport/shm/process_memory.h"
#include "transport/shm/segment.h"

namespace penstock::shm {

inline constexpr std::uint32_t kMaxRegions = 1U << 16;  // of a device

// A region as its owner publishes it. The fields are those of the region of `key` if `key` is the
// same before they are read and after; a key never comes back.
struct RegionEntry {
  SharedWord key;  // 0: none is alive here
  SharedWord base;
  SharedWord length;
  SharedWord rights;  // pack()
};

struct RegionRights {
  Access access{};
  bool shared = false;      // in memory that can be mapped: the owner hands it out when asked
  bool host_memory = true;  // copies can reach it
  PeerScope scope = kAnyScope;
};
constexpr std::uint64_t pack(const RegionRights& rights) {
  return std::uint64_t{rights.scope} << 32 | std::uint64_t{rights.host_memory} << 9 |
         std::uint64_t{rights.shared} << 8 | static_cast<std::uint64_t>(rights.access);
}
constexpr RegionRights unpack_rights(std::uint64_t word) {
  return {static_cast<Access>(word & 7U), (word >> 8 & 1U) != 0, (word >> 9 & 1U) != 0,
          static_cast<PeerScope>(word >> 32)};
}

struct Peer {
  UniqueFd socket;
  UniqueFd bell;
  Segment segment;  // read-only
  Mapping regions;  // read-only: kMaxRegions entries
  Incarnation incarnation = 0;
  PeerScope scope = kAnyScope;  // ours there
  ProcessMemory memory;         // its own, if we can reach it

  // From a hello or a welcome; takes `socket` when it succeeds. kProtocol, saying why, when what
  // came is not fit to be used.
  static Result<std::unique_ptr<Peer>> create(UniqueFd& socket, Parcel parcel);

  // What it says of the region of `key`; kStale when there is none, kAccess for another scope's,
  // kUnsupported for memory that no copy reaches.
  struct Region {
    Code code = Code::kOk;
    std::uint64_t base = 0;    // where it has it
    std::uint64_t length = 0;  // bytes
    RegionRights rights{};
  };
  Region look_up(std::uint64_t key) const;
  bool alive(std::uint64_t key) const {
    return entry(key).key.load(std::memory_order_seq_cst) == key;
  }
  // `key` was looked up.
  const RegionEntry& entry(std::uint64_t key) const {
    return regions.as<RegionEntry>()[static_cast<std::uint32_t>(key)];
  }
  // Both directions of the socket are closed: the process is gone or has ended this connection.
  // Either way it copies nothing any more.
  bool gone() const;
  void ring() const;
};

}  // namespace penstock::shm
