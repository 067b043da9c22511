// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Keys of a server: what a declaration allocates, what workers lend for it, what a removal frees.

#include "engine/protocol/limits.h"
#include "engine/server/server.h"
#include "transport/base/log.h"

namespace penstock {

void Server::on_commit(const wire::CommitT& commit) {
  if (commit.kind == wire::CollectiveKind::Declare) {
    if (Status added = add_tables(commit); !added.ok()) {
      PENSTOCK_LOG_ERROR("server {}: {}", self_.rank, added.to_string());
      batches_[commit.order].failed = added;
    }
    std::vector<HeldLend> held = std::move(held_);
    held_.clear();
    for (const HeldLend& lend : held) on_lend(lend.worker, lend.message);
  } else if (commit.kind == wire::CollectiveKind::Remove) {
    for (const Key key : commit.keys)
      if (Status removed = map_->remove(key); !removed.ok()) return finish(removed);
    norms_->remove(commit.keys);
    for (std::uint32_t i = 0; i < lanes_.size(); ++i) command(i, RemoveKeys{commit.keys});
  }
}

Status Server::add_tables(const wire::CommitT& commit) {
  PENSTOCK_ASSIGN_OR_RETURN(const auto batch, from_wire(commit.declarations));
  PENSTOCK_ASSIGN_OR_RETURN(const Placement placement, map_->add(batch));
  PENSTOCK_RETURN_IF_ERROR(check_supported(batch));
  Batch& record = batches_[commit.order];
  record.keys = batch.size();
  record.grants.resize(workers_.size() * lanes_.size());
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    const LanePlacement& mine = placement.lanes[self_.rank * lanes_.size() + lane];
    if (mine.slices.empty()) continue;
    PENSTOCK_ASSIGN_OR_RETURN(auto tables,
                              LaneTables::create(commit.order, batch, mine, memory_[lane]));
    PENSTOCK_RETURN_IF_ERROR(tables->add_norms(kernels_, memory_[lane]));
    for (Rank worker = 0; worker < workers_.size(); ++worker)
      record.grants[worker * lanes_.size() + lane] = {tables->slots(worker), tables->masters(),
                                                      tables->copies()};
    command(lane, AddTables{std::move(tables)});
  }
  connect_peers(norms_->add(commit.order, batch, placement));
  return {};
}

Status Server::copy_key(std::shared_ptr<KeyCopy> copy) {
  constexpr std::size_t kMaxWaiting = 4096;
  if (!running_.load(std::memory_order_acquire))
    return {Code::kNotFound, "the job does not run yet"};
  {
    MutexLock lock(mutex_);
    if (copies_.size() >= kMaxWaiting) return {Code::kExhausted, "too many keys wait to be copied"};
    copies_.push_back(std::move(copy));
  }
  waker_.wake();
  return {};
}

// One at a time, so that the lanes' rings of commands cannot fill up.
std::size_t Server::start_copies() {
  if (copying_ != nullptr && !copying_->over()) return 0;
  copying_.reset();
  {
    MutexLock lock(mutex_);
    if (copies_.empty()) return 0;
    copying_ = std::move(copies_.front());
    copies_.pop_front();
  }
  copying_->begin(kernels_, static_cast<std::uint32_t>(lanes_.size()));
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) command(lane, CopyKey{copying_});
  return 1;
}

// A worker lends its parameter buffers of a batch; its slots are the answer.
void Server::on_lend(Rank worker, const wire::LendT& lend) {
  const auto batch = batches_.find(lend.order);
  if (batch == batches_.end()) {
    if (held_.size() < std::size_t{4} * kMaxJobWorkers) held_.push_back({worker, lend});
    return;
  }
  wire::GrantT grant;
  grant.order = lend.order;
  const Batch& record = batch->second;
  const auto parameters = from_wire(lend.parameters);
  const auto gradients = from_wire(lend.gradients);
  if (!record.failed.ok()) {
    grant.error = to_wire(record.failed);
  } else if (!parameters.ok() || !gradients.ok() || parameters->size() != record.keys ||
             gradients->size() != record.keys || lend.views.size() != record.keys) {
    grant.error = to_wire({Code::kProtocol, "buffers lent do not match the declaration"});
  } else {
    for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
      const LaneGrant& granted = record.grants[worker * lanes_.size() + lane];
      grant.slots.push_back(to_wire(granted.slots));
      grant.masters.push_back(to_wire(granted.masters));
      grant.copies.push_back(to_wire(granted.copies));
      command(lane, LendBuffers{lend.order, worker, *parameters, *gradients, lend.views});
    }
  }
  links_.send(worker_links_[worker].link, std::move(grant));
}

}  // namespace penstock
