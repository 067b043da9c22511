// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/shm/peer.h"

#include <poll.h>
#include <unistd.h>

#include <utility>

#include "transport/shm/socket.h"

namespace penstock::shm {

Result<std::unique_ptr<Peer>> Peer::create(UniqueFd& socket, Parcel parcel) {
  if (parcel.fd_count != kMaxFds)
    return Status(Code::kProtocol, "a hello without the memory that belongs to it");
  if (!is_bell(parcel.fds[kBellFd].get()))
    return Status(Code::kProtocol, "a hello whose bell is not a non-blocking eventfd");
  auto peer = std::make_unique<Peer>();
  PENSTOCK_ASSIGN_OR_RETURN(Mapping segment,
                            map_shared(parcel.fds[kSegmentFd].get(), kSegmentBytes, false));
  PENSTOCK_ASSIGN_OR_RETURN(peer->regions, map_shared(parcel.fds[kRegionsFd].get(),
                                                      kMaxRegions * sizeof(RegionEntry), false));
  peer->segment = Segment(std::move(segment));
  peer->socket = std::move(socket);
  peer->bell = std::move(parcel.fds[kBellFd]);
  peer->incarnation = parcel.message.incarnation;
  peer->scope = parcel.message.scope;
  peer->memory =
      ProcessMemory::open(peer->socket.get(), parcel.message.probe_address, parcel.message.probe);
  return peer;
}

Peer::Region Peer::look_up(std::uint64_t key) const {
  if (static_cast<std::uint32_t>(key) >= kMaxRegions || key == 0) return {.code = Code::kStale};
  const RegionEntry& found = entry(key);
  // Pairs with the release in RegionTable::add(): the fields are of this region or a later one,
  // which alive() tells before they are used.
  if (found.key.load(std::memory_order_acquire) != key) return {.code = Code::kStale};
  Region region{.base = found.base.load(std::memory_order_relaxed),
                .length = found.length.load(std::memory_order_relaxed),
                .rights = unpack_rights(found.rights.load(std::memory_order_relaxed))};
  if (region.rights.scope != kAnyScope && region.rights.scope != scope)
    region.code = Code::kAccess;
  else if (!region.rights.host_memory)
    region.code = Code::kUnsupported;
  return region;
}

bool Peer::gone() const {
  pollfd state{socket.get(), 0, 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
}

void Peer::ring() const {
  const std::uint64_t one = 1;
  // Full means that it has been rung and not yet answered; nothing else can fail.
  (void)!::write(bell.get(), &one, sizeof one);
}

}  // namespace penstock::shm
