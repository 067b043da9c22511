// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// A lane takes the state of a key out, or puts it back; see key_copy.h.

#include <fmt/format.h>

#include <cstring>

#include "engine/server/server_lane.h"

namespace penstock {
namespace {

// Where `slice` begins in the bytes of the job, or none.
std::optional<std::uint64_t> offset_of(const KeyCopy& copy, const SliceRecord& slice,
                                       std::uint64_t element_bytes) {
  std::uint64_t offset = 0;
  for (const SliceRecord& record : copy.slices) {
    if (record == slice) return offset;
    offset += record.count * element_bytes;
  }
  return {};
}

std::vector<std::uint32_t> plane_bytes(const OptimizerSpec& optimizer) {
  std::vector<std::uint32_t> bytes{sizeof(float)};
  for (std::uint32_t plane = 0; plane < state_planes(optimizer); ++plane)
    bytes.push_back(state_bytes(optimizer, plane));
  return bytes;
}

// The planes of one slice where they lie, the parameters first.
std::vector<std::span<std::byte>> planes_of(const LaneTables& tables, std::size_t index,
                                            std::span<const std::uint32_t> element_bytes) {
  const SliceStorage& at = tables.storage(index);
  const std::uint64_t count = tables.placement().slices[index].elements.count;
  std::vector<std::span<std::byte>> planes{
      std::as_writable_bytes(std::span(tables.parameters(at), count))};
  for (std::uint32_t plane = 1; plane < element_bytes.size(); ++plane)
    planes.emplace_back(static_cast<std::byte*>(tables.state(at, plane - 1)),
                        count * element_bytes[plane]);
  return planes;
}

}  // namespace

// Between rounds all slices of a key, on all lanes, wait for the same one.
Status ServerLane::check_copy(KeyCopy& copy, const KeyTable& key,
                              std::span<const std::size_t> indices,
                              const LaneTables& tables) const {
  const std::string name = describe(key.declaration);
  if (tables.device() != nullptr)
    return {Code::kUnsupported,
            fmt::format("{}: its state is in GPU memory and cannot be copied yet", name)};
  if (key.declaration.spec.optimizer.kind == OptimizerKind::kAdaFactor)
    return {Code::kUnsupported,
            fmt::format("{}: adafactor's means by row and column cannot be copied yet", name)};
  for (const std::size_t index : indices) {
    const ServerSlice& slice = slices_[tables.placement().slices[index].slice];
    const Round round = slice.round.round();
    if (copy.next == 0) copy.next = round;
    bool quiet = round != 0 && round == copy.next && !slice.updating;
    for (Rank worker = 0; worker < workers_; ++worker)
      quiet = quiet && ((live_ >> worker & 1U) == 0 || slice.round.next_round(worker) == round);
    if (!quiet)
      return {Code::kInvalidArgument,
              fmt::format("{}: round {} is running; wait for it on every worker, then a barrier",
                          name, round)};
  }
  std::uint64_t elements = 0;
  for (const SliceRecord& record : copy.slices) elements += record.count;
  std::uint64_t element_bytes = 0;
  for (const std::uint32_t bytes : plane_bytes(key.declaration.spec.optimizer))
    element_bytes += bytes;
  if (copy.kind == KeyCopy::Kind::kWrite && copy.given.size() != elements * element_bytes)
    return {Code::kInvalidArgument, fmt::format("{}: {} bytes for {} elements of {} bytes", name,
                                                copy.given.size(), elements, element_bytes)};
  return {};
}

void ServerLane::read_key(KeyCopy& copy, const LaneTables& tables,
                          std::span<const std::size_t> indices) {
  for (const std::size_t index : indices) {
    const SlicePlace& place = tables.placement().slices[index];
    copy.slices.push_back({place.elements.begin, place.elements.count});
    if (copy.kind == KeyCopy::Kind::kDescribe) continue;
    for (const std::span<std::byte> plane : planes_of(tables, index, copy.plane_bytes))
      copy.bytes.insert(copy.bytes.end(), plane.begin(), plane.end());
  }
}

Status ServerLane::write_key(const KeyCopy& copy, KeyTable& key, const LaneTables& tables,
                             std::span<const std::size_t> indices) {
  const TensorSpec& spec = key.declaration.spec;
  const std::vector<std::uint32_t> element_bytes = plane_bytes(spec.optimizer);
  std::uint64_t bytes = 0;
  for (const std::uint32_t plane : element_bytes) bytes += plane;
  for (const std::size_t index : indices) {
    const SlicePlace& place = tables.placement().slices[index];
    const auto offset = offset_of(copy, {place.elements.begin, place.elements.count}, bytes);
    if (!offset)
      return {Code::kInvalidArgument,
              fmt::format("{}: nothing was given for elements {} to {}", describe(key.declaration),
                          place.elements.begin, place.elements.begin + place.elements.count)};
    const std::byte* from = copy.given.data() + *offset;
    for (const std::span<std::byte> plane : planes_of(tables, index, element_bytes)) {
      std::memcpy(plane.data(), from, plane.size());
      from += plane.size();
    }
    const SliceStorage& at = tables.storage(index);
    if (void* const wire = tables.wire(at, spec.parameter_dtype))
      copy.kernels->encode(tables.parameters(at), wire, spec.parameter_dtype, place.elements.count);
    // Round r is step steps + 1 when it is the next; the count may wrap around zero.
    key.earlier_steps = copy.steps - (copy.next - 1);
    if (key.norms != nullptr) key.norms->earlier_steps = key.earlier_steps;
    key.folded_for = 0;
  }
  return {};
}

// With the job's mutex.
Status ServerLane::copy_key(KeyCopy& copy, LaneTables& tables, std::uint32_t declaration) {
  KeyTable& key = tables.keys()[declaration];
  if (key.slices == 0 || key.declaration.key != copy.key) return {};
  const auto& places = tables.placement().slices;
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < places.size(); ++i)
    if (places[i].declaration == declaration) indices.push_back(i);
  PENSTOCK_RETURN_IF_ERROR(check_copy(copy, key, indices, tables));
  if (copy.kind == KeyCopy::Kind::kWrite) return write_key(copy, key, tables, indices);
  copy.plane_bytes = plane_bytes(key.declaration.spec.optimizer);
  copy.steps = copy.next - 1 + key.earlier_steps;
  read_key(copy, tables, indices);
  return {};
}

void ServerLane::handle(CopyKey& command) {
  KeyCopy& copy = *command.copy;
  {
    MutexLock lock(copy.mutex());
    for (const auto& tables : tables_)
      for (std::uint32_t k = 0; k < tables->keys().size() && copy.status.ok(); ++k)
        copy.status = copy_key(copy, *tables, k);
  }
  copy.lane_done();
  control_.wake();
}

}  // namespace penstock
