// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/devices/local_group.h"

#include <fmt/format.h>

#include <chrono>
#include <string_view>
#include <thread>

namespace penstock {
namespace {

// Devices have nothing to sleep on with a deadline.
constexpr std::chrono::microseconds kNap{20};

constexpr std::string_view kStages[] = {"idle", "the sum over the devices", "its push",
                                        "the answer of the servers",
                                        "the broadcast to the devices"};

}  // namespace

GroupCall LocalGroup::call_of(Entry& entry, GroupCallKind kind) const {
  const TensorSpec& spec = entry.declaration.spec;
  const bool reduce = kind == GroupCallKind::kReduce;
  return {.kind = kind,
          .buffers = reduce ? entry.gradients : entry.parameters,
          .leader = reduce ? entry.sum : entry.result,
          .count = spec.elements(),
          .dtype = reduce ? spec.gradient_dtype : spec.parameter_dtype};
}

Status LocalGroup::check(LocalTensor& tensor) const {
  Entry entry;
  entry.declaration = {tensor.tensor.key, tensor.tensor.spec};
  PENSTOCK_RETURN_IF_ERROR(validate(entry.declaration));
  if (tensor.tensor.view || tensor.tensor.parameters.empty())
    return Status(Code::kUnsupported, describe(entry.declaration) +
                                          ": devices cannot read parameters in a server's "
                                          "memory")
        .with_hint("declare it without a view, with a buffer for the parameters");
  entry.gradients = tensor.gradients;
  entry.parameters = tensor.parameters;
  entry.sum = tensor.tensor.gradients.data();
  entry.result = tensor.tensor.parameters.data();
  for (const GroupCallKind kind : {GroupCallKind::kReduce, GroupCallKind::kBroadcast})
    if (const Status valid = validate(call_of(entry, kind), devices_.size()); !valid.ok())
      return Status(valid.code(), describe(entry.declaration) + ": " + valid.what())
          .with_hint(valid.hint());
  return {};
}

Status LocalGroup::declare(std::vector<LocalTensor> tensors) {
  for (LocalTensor& tensor : tensors) PENSTOCK_RETURN_IF_ERROR(check(tensor));
  std::vector<Tensor> declared;
  for (const LocalTensor& tensor : tensors) declared.push_back(tensor.tensor);
  PENSTOCK_RETURN_IF_ERROR(worker_.declare(std::move(declared)));
  std::vector<Entry*> added;
  for (LocalTensor& tensor : tensors) {
    auto entry = std::make_unique<Entry>();
    entry->declaration = {tensor.tensor.key, std::move(tensor.tensor.spec)};
    entry->gradients = std::move(tensor.gradients);
    entry->parameters = std::move(tensor.parameters);
    entry->sum = tensor.tensor.gradients.data();
    entry->result = tensor.tensor.parameters.data();
    entry->stage = Stage::kBroadcast;
    entry->started = 1;  // round 0 brought the initial values to the leader
    added.push_back(entry.get());
    active_.push_back(entry.get());
    entries_[tensor.tensor.key] = std::move(entry);
  }
  active_.reserve(entries_.size());  // so that no round allocates
  const TimeNs deadline_ns = worker_.call_deadline_ns();
  for (Entry* const entry : added) PENSTOCK_RETURN_IF_ERROR(wait(*entry, 0, deadline_ns));
  return {};
}

Status LocalGroup::remove(const std::vector<Key>& keys) {
  for (const Key key : keys) {
    PENSTOCK_ASSIGN_OR_RETURN(const Entry* entry, find(key));
    if (entry->stage != Stage::kIdle)
      return {Code::kInvalidArgument,
              describe(entry->declaration) + ": a round is running; wait for it"};
  }
  PENSTOCK_RETURN_IF_ERROR(worker_.remove(keys));
  for (const Key key : keys) entries_.erase(key);
  return {};
}

Result<LocalGroup::Entry*> LocalGroup::find(Key key) const {
  const auto found = entries_.find(key);
  if (found != entries_.end()) return found->second.get();
  return Status(Code::kNotFound, fmt::format("key {} is not declared over these devices", key));
}

// ---- rounds -------------------------------------------------------------------------------------

Status LocalGroup::push_pull(Key key, Round round) {
  PENSTOCK_ASSIGN_OR_RETURN(Entry* const entry, find(key));
  PENSTOCK_RETURN_IF_ERROR(entry->status);
  if (entry->stage != Stage::kIdle)
    return {Code::kInvalidArgument, fmt::format("{}: round {} is still running",
                                                describe(entry->declaration), entry->started - 1)};
  if (round != entry->started)
    return {Code::kInvalidArgument,
            fmt::format("{}: round {} asked for, {} is next", describe(entry->declaration), round,
                        entry->started)};
  entry->stage = Stage::kReduce;
  ++entry->started;
  active_.push_back(entry);
  return {};
}

std::size_t LocalGroup::progress() {
  std::size_t done = devices_.progress();
  for (std::size_t i = 0; i < active_.size();) {
    Entry& entry = *active_[i];
    const Result<bool> moved = step(entry);
    if (!moved.ok()) {
      entry.status =
          Status(moved.status().code(),
                 fmt::format("{}: round {}, {}: {}", describe(entry.declaration), entry.started - 1,
                             kStages[static_cast<std::size_t>(entry.stage)], moved.status().what()))
              .with_peer(moved.status().peer())
              .with_hint(moved.status().hint());
      entry.stage = Stage::kIdle;
    }
    if (!moved.ok() || *moved) ++done;
    if (entry.stage == Stage::kIdle)
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
    else
      ++i;
  }
  return done;
}

Result<bool> LocalGroup::over(Entry& entry, GroupCallKind kind) {
  if (!entry.ticket) {
    const Result<GroupTicket> begun = devices_.begin(call_of(entry, kind));
    if (begun.status().code() == Code::kExhausted) return false;  // calls of other keys go first
    PENSTOCK_RETURN_IF_ERROR(begun.status());
    entry.ticket = *begun;
  }
  const std::optional<Status> done = devices_.poll(*entry.ticket);
  if (!done) return false;
  entry.ticket.reset();
  PENSTOCK_RETURN_IF_ERROR(*done);
  return true;
}

Result<bool> LocalGroup::step(Entry& entry) {
  const Round round = entry.started - 1;
  const Key key = entry.declaration.key;
  switch (entry.stage) {
    case Stage::kReduce: {
      PENSTOCK_ASSIGN_OR_RETURN(const bool reduced, over(entry, GroupCallKind::kReduce));
      if (!reduced) return false;
      entry.stage = Stage::kPush;
      [[fallthrough]];
    }
    case Stage::kPush: {
      const Status pushed = worker_.push_pull(key, round);
      if (pushed.code() == Code::kExhausted) return false;  // rounds of other keys go first
      PENSTOCK_RETURN_IF_ERROR(pushed);
      entry.stage = Stage::kWire;
      return true;
    }
    case Stage::kWire: {
      PENSTOCK_ASSIGN_OR_RETURN(const bool answered, worker_.finished(key, round));
      if (!answered) return false;
      entry.stage = Stage::kBroadcast;
      [[fallthrough]];
    }
    case Stage::kBroadcast: {
      PENSTOCK_ASSIGN_OR_RETURN(const bool supplied, over(entry, GroupCallKind::kBroadcast));
      if (!supplied) return false;
      entry.finished = entry.started;
      entry.stage = Stage::kIdle;
      return true;
    }
    default:
      return false;
  }
}

Result<bool> LocalGroup::finished(Key key, Round round) const {
  PENSTOCK_ASSIGN_OR_RETURN(const Entry* const entry, find(key));
  PENSTOCK_RETURN_IF_ERROR(entry->status);
  return entry->finished > round;
}

Status LocalGroup::wait(Key key, Round round, TimeNs deadline_ns) {
  PENSTOCK_ASSIGN_OR_RETURN(Entry* const entry, find(key));
  if (entry->started <= round)
    return {Code::kInvalidArgument,
            fmt::format("{}: round {} was not started", describe(entry->declaration), round)};
  return wait(*entry, round, deadline_ns);
}

Status LocalGroup::wait(Entry& entry, Round round, TimeNs deadline_ns) {
  while (entry.finished <= round) {
    PENSTOCK_RETURN_IF_ERROR(entry.status);
    if (progress() > 0) continue;
    if (clock_.now_ns() >= deadline_ns)
      return Status(Code::kTimeout,
                    fmt::format("{}: round {} waits for {}", describe(entry.declaration), round,
                                kStages[static_cast<std::size_t>(entry.stage)]))
          .with_hint("the buffers stay lent");
    std::this_thread::sleep_for(kNap);
  }
  return {};
}

}  // namespace penstock
