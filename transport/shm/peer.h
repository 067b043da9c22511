// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The other side of a connection as this process sees it: its socket and what it shared at hello.

#include <memory>

#include "transport/shm/message.h"
#include "transport/shm/segment.h"

namespace penstock::shm {

inline constexpr std::uint32_t kMaxRegions = 1U << 16;  // of a device

struct Peer {
  UniqueFd socket;
  UniqueFd bell;
  Segment segment;  // read-only
  Mapping keys;     // read-only: kMaxRegions words, the key of each region that is alive
  Incarnation incarnation = 0;

  // From a hello or a welcome; takes `socket` when it succeeds. kProtocol, saying why, when what
  // came is not fit to be used.
  static Result<std::unique_ptr<Peer>> create(UniqueFd& socket, Parcel parcel);

  const SharedWord& key_of(std::uint32_t slot) const { return keys.as<SharedWord>()[slot]; }
  // Both directions of the socket are closed: the process is gone or has ended this connection.
  // Either way it copies nothing any more.
  bool gone() const;
  void ring() const;
};

}  // namespace penstock::shm
