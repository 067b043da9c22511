// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Parameters that are read in the servers' memory. Set-up only: no round comes here.

#include <algorithm>
#include <array>

#include "engine/protocol/limits.h"
#include "engine/worker/worker.h"

namespace penstock {

void WorkerLane::add_views(const AddKeys& add, Rank server) {
  const LanePlacement& placement = add.placement[server];
  const LaneStorage storage = lay_out(add.batch, placement);
  View view;
  view.grant = add.grants[server];
  for (std::size_t i = 0; i < placement.slices.size(); ++i) {
    InflightKey* const key = add.keys[placement.slices[i].declaration];
    if (!key->view) continue;
    view.slices.emplace_back(key, placement.slices[i]);
    view.storage.push_back(storage.slices[i]);
  }
  if (view.slices.empty()) return;
  Link& link = links_[server];
  link.views.push_back(std::move(view));
  if (link.up) map_views(link);
}

void WorkerLane::map_views(Link& link) {
  std::erase_if(link.views, [&](const View& view) {
    InflightKey* key = nullptr;
    Status status = map_view(link, view, key);
    if (status.code() == Code::kTimeout)
      return false;  // the server was busy: run_once() asks again
    if (!status.ok()) tell(KeyFailed{key, std::move(status)});
    return true;
  });
}

// All of it or, for a reason that `failed` suffers from, nothing.
Status WorkerLane::map_view(Link& link, const View& view, InflightKey*& failed) {
  std::array<std::shared_ptr<RemoteMapping>, 2> mappings;  // masters, copies: where needed
  std::vector<InflightKey::Piece> pieces;
  for (std::size_t i = 0; i < view.slices.size(); ++i) {
    const auto& [key, place] = view.slices[i];
    failed = key;
    const DType dtype = key->declaration.spec.parameter_dtype;
    const bool master = dtype == DType::kFloat32;
    const RemoteBuffer& from = master ? view.grant.masters : view.grant.copies;
    std::shared_ptr<RemoteMapping>& mapping = mappings[master ? 0 : 1];
    if (mapping == nullptr) {
      PENSTOCK_ASSIGN_OR_RETURN(mapping, link.endpoint->map(from.region, Access::kMap));
    }
    const std::uint64_t bytes = place.elements.count * dtype_bytes(dtype);
    const std::uint64_t offset = from.offset + (master ? view.storage[i].first * sizeof(float)
                                                       : view.storage[i].wire_offset);
    if (offset > mapping->bytes().size() || bytes > mapping->bytes().size() - offset)
      return {Code::kProtocol, "a server's memory is smaller than its parameters"};
    pieces.push_back({place.elements.begin, mapping->bytes().subspan(offset, bytes), mapping});
  }
  for (std::size_t i = 0; i < pieces.size(); ++i)
    view.slices[i].first->pieces[index_].push_back(std::move(pieces[i]));
  return {};
}

void Worker::on_key_failed(const InflightKey* key, const Status& reason) {
  fail(Status(reason.code(), describe(key->declaration) +
                                 ": its parameters cannot be read in place: " + reason.to_string())
           .with_hint("declare it without a view, or use a transport that maps memory, on one "
                      "host"));
}

Result<std::vector<ParameterPiece>> Worker::view(Key key) const {
  MutexLock lock(mutex_);
  PENSTOCK_ASSIGN_OR_RETURN(const InflightKey* found, ready_key(key));
  if (!found->view)
    return Status(Code::kInvalidArgument, describe(found->declaration) + " has no view");
  std::vector<ParameterPiece> pieces;
  for (const auto& lane : found->pieces)
    for (const InflightKey::Piece& piece : lane)
      pieces.push_back({piece.first_element, piece.bytes});
  std::sort(pieces.begin(), pieces.end(), [](const ParameterPiece& a, const ParameterPiece& b) {
    return a.first_element < b.first_element;
  });
  return pieces;
}

}  // namespace penstock
