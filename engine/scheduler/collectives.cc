// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler/collectives.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace penstock {
namespace {

std::string name_of(wire::CollectiveKind kind) {
  switch (kind) {
    case wire::CollectiveKind::Declare:
      return "declare";
    case wire::CollectiveKind::Remove:
      return "remove";
    case wire::CollectiveKind::Share:
      return "share";
    default:
      return "barrier";
  }
}

std::string difference(const wire::ShareT& a, const wire::ShareT& b) {
  if (a.name != b.name) return fmt::format("share '{}' against '{}'", a.name, b.name);
  if (a.root != b.root)
    return fmt::format("share '{}': from worker {} against worker {}", a.name, a.root, b.root);
  if (a.size != b.size)
    return fmt::format("share '{}': {} bytes against {}", a.name, a.size, b.size);
  return {};
}

// "" when equal.
std::string difference(const CollectiveCall& a, const CollectiveCall& b) {
  if (a.kind != b.kind) return fmt::format("{} against {}", name_of(a.kind), name_of(b.kind));
  if (a.keys != b.keys) return fmt::format("remove of {} against {}", a.keys, b.keys);
  if (a.declarations.size() != b.declarations.size())
    return fmt::format("{} tensors against {}", a.declarations.size(), b.declarations.size());
  for (std::size_t i = 0; i < a.declarations.size(); ++i) {
    const Declaration& x = a.declarations[i];
    const Declaration& y = b.declarations[i];
    if (x.key != y.key)
      return fmt::format("tensor {} is {} against {}", i, describe(x), describe(y));
    if (const std::string what = difference(x.spec, y.spec); !what.empty())
      return fmt::format("{}: {}", describe(x), what);
  }
  return difference(a.share, b.share);
}

}  // namespace

std::optional<Collectives::Outcome> Collectives::add(Rank worker, std::uint64_t sequence,
                                                     CollectiveCall call, TimeNs deadline_ns) {
  if (abandoned_.contains(sequence))
    return Outcome{sequence,
                   {worker},
                   {Code::kTimeout, fmt::format("{}: the others gave up waiting for this worker",
                                                name_of(call.kind))},
                   {}};
  Pending& pending = pending_[sequence];
  if (pending.calls.empty()) pending.deadline_ns = deadline_ns;
  pending.calls.emplace(worker, std::move(call));
  if (!complete(pending)) return std::nullopt;
  return conclude(sequence);
}

bool Collectives::complete(const Pending& pending) const {
  return std::all_of(live_.begin(), live_.end(),
                     [&](Rank rank) { return pending.calls.contains(rank); });
}

Status Collectives::compare(const Pending& pending) const {
  const auto& [first_rank, first] = *pending.calls.begin();
  for (const auto& [rank, call] : pending.calls)
    if (const std::string what = difference(first, call); !what.empty())
      return {Code::kMismatch, fmt::format("{} and {} disagree: {}", describe(workers_[first_rank]),
                                           describe(workers_[rank]), what)};
  if (first.kind == wire::CollectiveKind::Share && !pending.calls.contains(first.share.root))
    return {Code::kPeerLost, fmt::format("share '{}': {}, which brings it, has left the job",
                                         first.share.name, describe(workers_[first.share.root]))};
  return {};
}

Collectives::Outcome Collectives::conclude(std::uint64_t sequence) {
  const auto found = pending_.find(sequence);
  Outcome outcome{sequence, {}, compare(found->second), {}};
  for (const auto& [rank, call] : found->second.calls) outcome.waiting.push_back(rank);
  const auto root = found->second.calls.find(found->second.calls.begin()->second.share.root);
  const bool share = root != found->second.calls.end() && outcome.error.ok();
  outcome.call = std::move(share ? root->second : found->second.calls.begin()->second);
  pending_.erase(found);
  return outcome;
}

std::vector<Collectives::Outcome> Collectives::leave(Rank worker) {
  live_.erase(worker);
  std::vector<std::uint64_t> ready;
  for (const auto& [sequence, pending] : pending_)
    if (!live_.empty() && complete(pending)) ready.push_back(sequence);
  std::vector<Outcome> outcomes;
  for (const std::uint64_t sequence : ready) outcomes.push_back(conclude(sequence));
  return outcomes;
}

std::vector<Collectives::Outcome> Collectives::expire(TimeNs now_ns) {
  std::vector<Outcome> outcomes;
  for (auto it = pending_.begin(); it != pending_.end();) {
    if (now_ns < it->second.deadline_ns) {
      ++it;
      continue;
    }
    std::vector<std::string> missing;
    for (const Rank rank : live_)
      if (!it->second.calls.contains(rank)) missing.push_back(describe(workers_[rank]));
    Outcome outcome{it->first, {}, {}, {}};
    outcome.error =
        Status(Code::kTimeout, fmt::format("{}: waited in vain for {}",
                                           name_of(it->second.calls.begin()->second.kind),
                                           fmt::join(missing, ", ")));
    for (const auto& [rank, call] : it->second.calls) outcome.waiting.push_back(rank);
    outcomes.push_back(std::move(outcome));
    abandoned_.insert(it->first);
    it = pending_.erase(it);
  }
  return outcomes;
}

TimeNs Collectives::next_deadline_ns() const {
  TimeNs next_ns = kNever;
  for (const auto& [sequence, pending] : pending_) next_ns = std::min(next_ns, pending.deadline_ns);
  return next_ns;
}

}  // namespace penstock
