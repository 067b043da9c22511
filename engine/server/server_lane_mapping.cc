// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Gradients that are read in the workers' memory: mapping it and saying so.

#include "engine/protocol/immediate.h"
#include "engine/server/server_lane.h"

namespace penstock {

// Where the transport can, gradients are read where they are. Set-up: before the key's first round,
// and after each reconnection, when the worker has forgotten what it was told.
void ServerLane::map_gradients(LaneTables& tables, Rank worker) {
  Peer& peer = peers_[worker];
  if (!device_.capabilities().maps_remote || !updater_->reads_mapped() ||
      peer.endpoint == nullptr || peer.draining || !peer.endpoint->connected())
    return;
  LaneTables::Lent& lent = tables.lent[worker];
  for (std::uint32_t i = 0; i < lent.gradients.size(); ++i) {
    const KeyTable& key = tables.keys()[i];
    // What a worker encodes is not in its gradient buffer.
    if (key.slices == 0 || lent.gradients[i].region.maps == 0 || key.declaration.spec.encoded())
      continue;
    if (lent.mapped[i] == nullptr) {
      auto mapping = peer.endpoint->map(lent.gradients[i].region, Access::kMap);
      if (mapping.status().code() == Code::kTimeout) {  // one wait at a time: others have rounds
        peer.map_again = true;
        return;
      }
      // The description is the worker's word; what can be read is the transport's.
      const std::uint64_t offset = lent.gradients[i].offset;
      if (!mapping.ok() || (*mapping)->kind() != MemoryKind::kHost ||
          offset > (*mapping)->bytes().size() ||
          key.declaration.spec.gradient_bytes() > (*mapping)->bytes().size() - offset)
        continue;
      lent.mapped[i] = std::move(*mapping);
    }
    // A worker lane that has not pushed yet may not know the slice; it is told when it does.
    if (slices_[key.first_slice].round.next_round(worker) > 0)
      peer.signals.push_back(encode_immediate(SliceKind::kMapped, 0, key.first_slice));
  }
}

void ServerLane::announce(std::uint32_t index, Rank worker) {
  const LaneTables& tables = *slices_[index].tables;
  const std::uint32_t declaration = tables.placement().slices[slices_[index].index].declaration;
  if (tables.keys()[declaration].first_slice == index &&
      tables.lent[worker].mapped[declaration] != nullptr)
    peers_[worker].signals.push_back(encode_immediate(SliceKind::kMapped, 0, index));
}

// The worker was busy when it was asked; by now it may have answered.
std::size_t ServerLane::map_again(Rank worker) {
  peers_[worker].map_again = false;
  for (const auto& tables : tables_) map_gradients(*tables, worker);
  return 1;
}

std::size_t ServerLane::post_signals(Peer& peer) {
  std::size_t posted = 0;
  for (; posted < peer.signals.size(); ++posted) {
    WorkRequest work;
    work.has_immediate = true;
    work.immediate = peer.signals[posted];
    if (peer.endpoint == nullptr || !peer.endpoint->connected() || !peer.endpoint->post(work).ok())
      break;
  }
  peer.signals.erase(peer.signals.begin(),
                     peer.signals.begin() + static_cast<std::ptrdiff_t>(posted));
  return posted;
}

}  // namespace penstock
