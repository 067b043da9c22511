// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The engine's small words. One word, one meaning: see the table in README.md.

#include <cstdint>
#include <string>
#include <string_view>

#include "transport/api/types.h"

namespace penstock {

using Key = std::uint64_t;                     // identity of a declared tensor
using Round = std::uint64_t;                   // 0 carries the initial values; the first step is 1
inline constexpr Round kNoRound = UINT64_MAX;  // past every round
using Epoch = std::uint64_t;                   // version of the membership
using Rank = std::uint32_t;  // of a worker among workers, of a server among servers

inline constexpr Rank kAnyRank = UINT32_MAX;  // "give me one"

enum class Role : std::uint8_t { kWorker, kServer, kScheduler };
std::string_view role_name(Role role);

// One process of the job as the scheduler admitted it.
struct Member {
  Role role = Role::kWorker;
  Rank rank = 0;
  Incarnation incarnation = 0;
  std::string name;             // "host:pid", for people
  std::string control_address;  // servers: where workers connect; "" otherwise
  std::string data_address;     // servers: Device::address()
  bool operator==(const Member&) const = default;
};

// Bytes at a peer: from `offset` of `region` on.
struct RemoteBuffer {
  RemoteRegion region;
  std::uint64_t offset = 0;
};

// What a server lane grants one worker for one batch: see wire::Grant.
struct LaneGrant {
  RemoteBuffer slots, masters, copies;
};

// A worker's slots are reachable through its own endpoints only.
constexpr PeerScope scope_of_worker(Rank worker) { return worker + 1; }

// "worker 3 (host:pid)"
std::string describe(const Member& member);

}  // namespace penstock
