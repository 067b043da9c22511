// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/norm_exchange.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock {
namespace {

using Placed = std::pair<std::uint64_t, std::uint32_t>;  // first element, lane of all servers'

// [declaration] → its slices in order, each with its lane.
std::vector<std::vector<Placed>> by_tensor(std::size_t tensors, const Placement& placement) {
  std::vector<std::vector<Placed>> all(tensors);
  for (std::uint32_t lane = 0; lane < placement.lanes.size(); ++lane)
    for (const SlicePlace& place : placement.lanes[lane].slices)
      all[place.declaration].emplace_back(place.elements.begin, lane);
  for (auto& slices : all) std::sort(slices.begin(), slices.end());
  return all;
}

}  // namespace

// ---- keys ---------------------------------------------------------------------------------------

NormExchange::Tensor NormExchange::make_tensor(const Declaration& declaration, std::uint64_t order,
                                               const std::vector<Placed>& slices) {
  const auto lanes = static_cast<std::uint32_t>(rings_.size());
  const OptimizerSpec& optimizer = declaration.spec.optimizer;
  Tensor tensor;
  tensor.declaration = declaration;
  tensor.group = optimizer.clip_global_norm > 0 ? order : 0;
  tensor.slices = static_cast<std::uint32_t>(slices.size());
  tensor.at_server.resize(servers_);
  tensor.at_lane.resize(lanes);
  tensor.waiting.resize(lanes);
  for (std::uint32_t i = 0; i < slices.size(); ++i) {
    const Rank server = slices[i].second / lanes;
    tensor.at_server[server].push_back(i);
    if (server == self_) tensor.at_lane[slices[i].second % lanes].push_back(i);
  }
  // A lane that has the whole tensor adds its direction up by itself.
  const bool on_one_lane = std::all_of(slices.begin(), slices.end(), [&](const Placed& at) {
    return at.second == slices.front().second;
  });
  if (!on_one_lane && optimizer.kind == OptimizerKind::kLamb) tensor.last_stage = kDirectionStage;
  return tensor;
}

std::set<Rank> NormExchange::add(std::uint64_t order, std::span<const Declaration> batch,
                                 const Placement& placement) {
  const auto slices = by_tensor(batch.size(), placement);
  std::set<Rank> group_servers, peers;
  std::vector<Key> added;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (!needs_norms(batch[i].spec.optimizer)) continue;
    Tensor tensor = make_tensor(batch[i], order, slices[i]);
    for (Rank server = 0; server < servers_; ++server) {
      if (tensor.at_server[server].empty()) continue;
      if (tensor.group != 0) group_servers.insert(server);
      if (server != self_) tensor.recipients.insert(server);
    }
    if (tensor.group == 0 && tensor.at_server[self_].empty()) continue;  // others' business
    added.push_back(batch[i].key);
    tensors_.insert_or_assign(batch[i].key, std::move(tensor));
  }
  const bool in_group = group_servers.erase(self_) > 0;
  for (const Key key : added) {
    const auto tensor = tensors_.find(key);
    if (tensor->second.group != 0 && !in_group) {
      tensors_.erase(tensor);
      continue;
    }
    if (tensor->second.group != 0) {
      groups_[order].keys.insert(key);
      tensor->second.recipients.insert(group_servers.begin(), group_servers.end());
    }
    peers.insert(tensor->second.recipients.begin(), tensor->second.recipients.end());
  }
  return peers;
}

// The workers have had every round of these keys, and of all keys of their groups.
void NormExchange::remove(std::span<const Key> keys) {
  for (const Key key : keys) {
    const auto tensor = tensors_.find(key);
    if (tensor == tensors_.end()) continue;
    if (const auto group = groups_.find(tensor->second.group); group != groups_.end()) {
      group->second.keys.erase(key);
      if (group->second.keys.empty()) groups_.erase(group);
    }
    tensors_.erase(tensor);
  }
}

// ---- rounds -------------------------------------------------------------------------------------

NormExchange::Stage& NormExchange::open(Tensor& tensor, Round round, std::uint8_t stage) {
  Stage& parts = tensor.stages[round & 1U][stage];
  if (parts.round == round) return parts;
  parts.round = round;
  parts.missing = tensor.slices;
  parts.mine_missing = static_cast<std::uint32_t>(tensor.at_server[self_].size());
  parts.parts.assign(tensor.slices, {});
  parts.heard.assign(servers_, false);
  return parts;
}

Round NormExchange::oldest_open(const Tensor& tensor) const {
  const auto group = groups_.find(tensor.group);
  return 1 + (group == groups_.end() ? tensor.done : std::min(tensor.done, group->second.done));
}

std::size_t NormExchange::run_once() {
  std::size_t done = flush();
  for (std::uint32_t lane = 0; lane < rings_.size(); ++lane)
    for (NormReady ready; rings_[lane].ready.pop(ready); ++done) take(lane, ready);
  return done;
}

bool NormExchange::may_sleep() const {
  return to_lanes_.empty() && std::all_of(rings_.begin(), rings_.end(), [](const NormRings& rings) {
           return rings.ready.empty();
         });
}

void NormExchange::take(std::uint32_t lane, const NormReady& ready) {
  const auto found = tensors_.find(ready.table->key);
  if (found == tensors_.end()) return;  // removed while workers that are gone had pushed it
  Tensor& tensor = found->second;
  tensor.waiting[lane] = ready.table;
  Stage& parts = open(tensor, ready.table->round, ready.stage);
  const std::vector<std::uint32_t>& places = tensor.at_lane[lane];
  for (std::size_t i = 0; i < places.size(); ++i) parts.parts[places[i]] = ready.table->parts[i];
  const auto count = static_cast<std::uint32_t>(places.size());
  parts.missing -= count;
  parts.mine_missing -= count;
  if (parts.mine_missing == 0) send(tensor, ready.stage, parts);
  if (parts.missing == 0) complete(tensor, ready.stage, parts);
}

void NormExchange::send(Tensor& tensor, std::uint8_t stage, const Stage& parts) {
  for (const Rank server : tensor.recipients) {
    auto part = std::make_unique<wire::NormPartT>();
    part->key = tensor.declaration.key;
    part->round = parts.round;
    part->stage = stage;
    for (const std::uint32_t place : tensor.at_server[self_]) {
      part->values.push_back(parts.parts[place].first);
      part->values.push_back(parts.parts[place].second);
    }
    outgoing_[server].parts.push_back(std::move(part));
  }
}

Status NormExchange::receive(Rank server, const wire::NormPartialsT& message) {
  for (const auto& part : message.parts)
    if (part != nullptr) PENSTOCK_RETURN_IF_ERROR(receive_part(server, *part));
  return {};
}

Status NormExchange::receive_part(Rank server, const wire::NormPartT& part) {
  const auto wrong = [&](std::string_view why) {
    return Status(Code::kProtocol, fmt::format("norms of key {} round {} stage {}: {}", part.key,
                                               part.round, part.stage, why));
  };
  const auto found = tensors_.find(part.key);
  if (found == tensors_.end()) return wrong("no such key here");
  Tensor& tensor = found->second;
  const Round oldest = oldest_open(tensor);
  if (part.round < oldest || part.round > oldest + 1 || part.round <= tensor.done)
    return wrong(fmt::format("round {} is open", oldest));
  const std::vector<std::uint32_t>& places = tensor.at_server[server];
  if (part.stage > tensor.last_stage) return wrong("no such stage");
  if (places.empty() || part.values.size() != 2 * places.size())
    return wrong(fmt::format("{} numbers for {} slices", part.values.size(), places.size()));
  Stage& parts = open(tensor, part.round, part.stage);
  if (parts.heard[server]) return wrong("they were sent before");
  parts.heard[server] = true;
  for (std::size_t i = 0; i < places.size(); ++i)
    parts.parts[places[i]] = {part.values[2 * i], part.values[2 * i + 1]};
  parts.missing -= static_cast<std::uint32_t>(places.size());
  if (parts.missing == 0) complete(tensor, part.stage, parts);
  return {};
}

// ---- sums ---------------------------------------------------------------------------------------

void NormExchange::complete(Tensor& tensor, std::uint8_t stage, Stage& parts) {
  parts.sums = add_in_order(parts.parts);
  if (stage == tensor.last_stage) tensor.done = parts.round;
  const auto group = groups_.find(tensor.group);
  if (stage == kSumStage && group != groups_.end())
    complete_group(group->second, parts.round);
  else
    deliver(tensor, stage, parts.sums, 0);
}

// In the order of the keys.
void NormExchange::complete_group(Group& group, Round round) {
  auto& progress = group.rounds[round & 1U];
  if (progress.round != round) progress = {round, 0};
  if (++progress.complete < group.keys.size()) return;
  double sum = 0;
  for (const Key key : group.keys) sum += tensors_.at(key).stages[round & 1U][kSumStage].sums.first;
  group.done = round;
  group.waiting_since_ns = 0;
  for (const Key key : group.keys) {
    Tensor& tensor = tensors_.at(key);
    deliver(tensor, kSumStage, tensor.stages[round & 1U][kSumStage].sums, sum);
  }
}

void NormExchange::deliver(Tensor& tensor, std::uint8_t stage, const NormSums& sums, double group) {
  for (std::uint32_t lane = 0; lane < rings_.size(); ++lane)
    if (NormTable* const table = std::exchange(tensor.waiting[lane], nullptr))
      to_lanes_.emplace_back(lane, NormCombined{table, stage, sums, group});
  flush();
}

std::size_t NormExchange::flush() {
  std::size_t flushed = 0;
  for (; !to_lanes_.empty(); to_lanes_.pop_front(), ++flushed) {
    NormRings& rings = rings_[to_lanes_.front().first];
    if (!rings.combined.push(NormCombined(to_lanes_.front().second))) break;
    rings.lane->wake();
  }
  return flushed;
}

std::string NormExchange::overdue(TimeNs now_ns, TimeNs patience_ns) {
  for (auto& [order, group] : groups_) {
    if (group.told) continue;
    const Round round = group.done + 1;
    const auto& progress = group.rounds[round & 1U];
    if (progress.round != round || progress.complete == 0) {
      group.waiting_since_ns = 0;
    } else if (group.waiting_since_ns == 0) {
      group.waiting_since_ns = now_ns;
    } else if (now_ns - group.waiting_since_ns > patience_ns) {
      group.told = true;
      const auto missing = std::find_if(group.keys.begin(), group.keys.end(), [&](Key key) {
        const Stage& parts = tensors_.at(key).stages[round & 1U][kSumStage];
        return parts.round != round || parts.missing != 0;
      });
      return fmt::format("the global norm of round {} waits for {}; {} of {} keys are here", round,
                         describe(tensors_.at(*missing).declaration), progress.complete,
                         group.keys.size());
    }
  }
  return {};
}

}  // namespace penstock
