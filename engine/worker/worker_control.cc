// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The control loop of Worker: collective calls, keys, deadlines and failure.
// Joining and connections are in worker_links.cc, what user's threads call in worker.cc.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/worker/worker.h"
#include "transport/base/log.h"

namespace penstock {

std::size_t Worker::run_once() {
  std::size_t done = links_.run_once();
  if (redial_.due())
    if (const Status dialled = dial_scheduler(); !dialled.ok()) fail(dialled);
  if (failed_.load(std::memory_order_relaxed)) return done;
  if (leaving_) {
    finish_leave();
    return done + take_notices();
  }
  return done + device_.progress() + take_notices() + take_calls() + send_notes() + open_lanes() +
         check_deadlines();
}

bool Worker::arm() {
  if (!notes_.empty()) return false;
  MutexLock lock(mutex_);
  return calls_.empty() || !joined_.load(std::memory_order_relaxed);
}

TimeNs Worker::next_deadline_ns() const {
  if (failed_.load(std::memory_order_relaxed)) return links_.next_deadline_ns();
  TimeNs next_ns = std::min(
      {links_.next_deadline_ns(), redial_.next_ns(), join_deadline_ns_, leave_deadline_ns_});
  for (const auto& [sequence, call] : running_) next_ns = std::min(next_ns, call.deadline_ns);
  for (const ServerLink& server : server_links_)
    for (const LaneLink& lane : server.lanes) next_ns = std::min(next_ns, lane.retry_ns);
  return next_ns;
}

void Worker::command(std::uint32_t lane, WorkerLaneCommand&& command) {
  MutexLock producer(lane_producer_);
  CHECK(lanes_[lane]->command(std::move(command)), "lane {} does not take commands", lane);
}

// Everything that waits ends with the same reason; the first one counts.
void Worker::fail(const Status& status) {
  if (failed_.load(std::memory_order_relaxed) || leaving_) return;
  PENSTOCK_LOG_DEBUG("worker {}: {}", self_.rank, status.to_string());
  std::vector<Ticket> waiting;
  {
    MutexLock lock(mutex_);
    failure_ = status;
    failed_.store(true, std::memory_order_release);
    for (const auto& [ticket, operation] : operations_) waiting.push_back(ticket);
    for (const auto& [id, key] : keys_) key->wait_point.notify();
    calls_.clear();
  }
  for (const Ticket ticket : waiting) complete(ticket, status);
  if (scheduler_) {
    wire::ReportT report;
    report.member = to_wire(self_);
    report.error = to_wire(status);
    links_.send(*scheduler_, std::move(report));
  }
}

std::size_t Worker::check_deadlines() {
  const TimeNs now_ns = clock_.now_ns();
  if (now_ns >= join_deadline_ns_) {
    fail(Status(Code::kTimeout, "the job did not start: some member never joined")
             .with_peer(options_.scheduler_address));
    return 1;
  }
  for (const auto& [sequence, call] : running_) {
    if (now_ns < call.deadline_ns) continue;
    fail(scheduler_ ? Status(Code::kTimeout, "a collective call got no answer")
                          .with_peer(options_.scheduler_address)
                    : Status(Code::kPeerLost, "the scheduler is lost, in the middle of a call")
                          .with_peer(options_.scheduler_address));
    return 1;
  }
  return 0;
}

// ---- calls --------------------------------------------------------------------------------------

std::size_t Worker::take_calls() {
  if (!joined_.load(std::memory_order_relaxed)) return 0;
  std::vector<Call> calls;
  {
    MutexLock lock(mutex_);
    calls.swap(calls_);
  }
  for (Call& call : calls) {
    if (call.kind == Call::Kind::kLeave) {
      leave_job(call.ticket);
      return calls.size();
    }
    send_call(std::move(call));
  }
  return calls.size();
}

void Worker::send_call(Call call) {
  if (!scheduler_) {
    complete(call.ticket,
             Status(Code::kPeerLost, "the scheduler is lost; keys and barriers need it")
                 .with_peer(options_.scheduler_address));
    return drop_keys(call.kind == Call::Kind::kDeclare ? call.keys : std::vector<InflightKey*>{});
  }
  if (call.kind == Call::Kind::kDeclare && server_links_.empty()) {
    complete(
        call.ticket,
        Status(Code::kUnsupported, fmt::format("{}: this job has no servers, only collective calls",
                                               describe(call.keys.front()->declaration)))
            .with_hint("tell the scheduler how many servers there are (--servers)"));
    return drop_keys(call.keys);
  }
  if (call.kind == Call::Kind::kShare && call.share.root >= workers())
    return complete(call.ticket,
                    {Code::kInvalidArgument,
                     fmt::format("share '{}': from worker {}; this job has {}, counted from 0",
                                 call.share.name, call.share.root, workers())});
  wire::CollectiveT message;
  message.sequence = next_sequence_++;
  message.timeout_ns = options_.call_timeout_ns;
  switch (call.kind) {
    case Call::Kind::kDeclare:
      message.kind = wire::CollectiveKind::Declare;
      for (const InflightKey* key : call.keys)
        message.declarations.push_back(to_wire(key->declaration));
      break;
    case Call::Kind::kRemove:
      message.kind = wire::CollectiveKind::Remove;
      for (const InflightKey* key : call.keys) message.keys.push_back(key->declaration.key);
      break;
    case Call::Kind::kShare:
      message.kind = wire::CollectiveKind::Share;
      message.share = std::make_unique<wire::ShareT>(call.share);
      if (call.share.root == self_.rank) {
        const auto* const first = reinterpret_cast<const std::uint8_t*>(call.bytes.data());
        message.share->bytes.assign(first, first + call.bytes.size());
      }
      break;
    default:
      message.kind = wire::CollectiveKind::Barrier;
  }
  // The scheduler ends the call in time and names who is missing; ours is the backstop.
  call.deadline_ns += 2 * links_.detect_ns();
  running_.emplace(message.sequence, std::move(call));
  links_.send(*scheduler_, std::move(message));
}

void Worker::finish_call(std::uint64_t sequence, Status status) {
  const auto call = running_.find(sequence);
  if (call == running_.end()) return;
  if (!status.ok() && call->second.kind == Call::Kind::kDeclare) drop_keys(call->second.keys);
  complete(call->second.ticket, std::move(status));
  running_.erase(call);
}

void Worker::drop_keys(const std::vector<InflightKey*>& keys) {
  MutexLock lock(mutex_);
  for (const InflightKey* key : keys) {
    const Key id = key->declaration.key;
    keys_.erase(id);
  }
}

// Everybody is told, and answers by closing the link; then nothing of this worker is waited for.
void Worker::leave_job(Ticket ticket) {
  leaving_ = ticket;
  leave_deadline_ns_ = clock_.now_ns() + links_.detect_ns();
  if (scheduler_) links_.send(*scheduler_, wire::LeaveT{});
  for (const ServerLink& server : server_links_)
    if (server.link) links_.send(*server.link, wire::LeaveT{});
  finish_leave();
}

void Worker::finish_leave() {
  const bool told = !scheduler_ && std::none_of(server_links_.begin(), server_links_.end(),
                                                [](const auto& server) { return server.link; });
  if (!told && clock_.now_ns() < leave_deadline_ns_) return;
  leave_deadline_ns_ = kNever;
  {
    MutexLock lock(mutex_);
    failure_ = Status(Code::kCancelled, "this worker has left the job");
    failed_.store(true, std::memory_order_release);
  }
  complete(*leaving_, {});
}

// ---- commits ------------------------------------------------------------------------------------

void Worker::on_commit(const wire::CommitT& commit) {
  const auto call = running_.find(commit.sequence);
  if (call == running_.end())
    return fail(Status(Code::kProtocol, "the scheduler committed a call this worker did not make"));
  switch (commit.kind) {
    case wire::CollectiveKind::Declare:
      return commit_declare(call->second, commit);
    case wire::CollectiveKind::Remove:
      return commit_remove(call->second, commit);
    case wire::CollectiveKind::Share:
      return commit_share(call->second, commit);
    default:
      return finish_call(commit.sequence, {});
  }
}

void Worker::commit_declare(Call& call, const wire::CommitT& commit) {
  std::vector<Declaration> batch;
  for (const InflightKey* key : call.keys) batch.push_back(key->declaration);
  Result<Placement> placement = map_->add(batch);
  if (!placement.ok()) return fail(placement.status());
  call.placement = std::move(*placement);
  if (Status placed = place_encoded(call); !placed.ok()) return fail(placed);
  call.order = commit.order;
  call.keys_missing = static_cast<std::uint32_t>(call.keys.size());
  call.grants.resize(server_links_.size());

  wire::LendT lend;
  lend.order = commit.order;
  const auto lent = [](const RegisteredBuffer& buffer) {
    return to_wire(RemoteBuffer{buffer.region->describe(), buffer.offset});
  };
  for (const InflightKey* key : call.keys) {
    lend.parameters.push_back(key->view ? to_wire(RemoteBuffer{}) : lent(key->parameters));
    lend.views.push_back(key->view ? 1 : 0);
    lend.gradients.push_back(key->encoder ? to_wire(RemoteBuffer{}) : lent(key->gradients));
  }
  const std::vector<std::byte> frame = encode_body(std::move(lend));
  for (Rank server = 0; server < server_links_.size(); ++server) {
    bool owns = false;
    for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane)
      for (const SlicePlace& place : call.placement.lanes[server * lanes_.size() + lane].slices) {
        InflightKey* const key = call.keys[place.declaration];
        ++key->slices;
        if (std::find(key->lanes.begin(), key->lanes.end(), lane) == key->lanes.end())
          key->lanes.push_back(lane);
        owns = true;
      }
    if (!owns) continue;
    ++call.grants_missing;
    if (server_links_[server].link) links_.send_frame(*server_links_[server].link, frame);
  }
  for (InflightKey* key : call.keys) key->pieces.resize(lanes_.size());
}

// Memory for what the lanes will encode.
Status Worker::place_encoded(const Call& call) {
  std::vector<std::vector<Slice>> slices(call.keys.size());
  for (const LanePlacement& lane : call.placement.lanes)
    for (const SlicePlace& place : lane.slices) slices[place.declaration].push_back(place.elements);
  for (std::size_t i = 0; i < call.keys.size(); ++i)
    if (call.keys[i]->encoder != nullptr)
      PENSTOCK_RETURN_IF_ERROR(call.keys[i]->encoder->place(std::move(slices[i]), regions_));
  return {};
}

void Worker::on_grant(Rank server, const wire::GrantT& grant) {
  const auto call = std::find_if(running_.begin(), running_.end(), [&](const auto& entry) {
    return entry.second.kind == Call::Kind::kDeclare && entry.second.order == grant.order &&
           entry.second.grants_missing > 0;
  });
  if (call == running_.end() || !call->second.grants[server].empty())
    return fail(
        Status(Code::kProtocol, fmt::format("server {} granted slots nobody asked for", server)));
  if (grant.error)
    return fail(from_wire(grant.error).with_peer(describe(server_links_[server].member)));
  const auto slots = from_wire(grant.slots);
  const auto masters = from_wire(grant.masters);
  const auto copies = from_wire(grant.copies);
  if (!slots.ok() || !masters.ok() || !copies.ok() || slots->size() != lanes_.size() ||
      masters->size() != lanes_.size() || copies->size() != lanes_.size())
    return fail(Status(Code::kProtocol, fmt::format("server {} granted other lanes", server)));
  for (std::size_t lane = 0; lane < lanes_.size(); ++lane)
    call->second.grants[server].push_back(
        {slots.value()[lane], masters.value()[lane], copies.value()[lane]});
  if (--call->second.grants_missing == 0) start_initial_round(call->second);
}

// Round 0 brings the initial values into everybody's parameters.
void Worker::start_initial_round(Call& call) {
  const auto lanes = static_cast<std::uint32_t>(lanes_.size());
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    AddKeys add;
    add.keys = call.keys;
    add.grants.resize(server_links_.size());
    if (std::any_of(call.keys.begin(), call.keys.end(), [](const auto* key) { return key->view; }))
      for (const InflightKey* key : call.keys) add.batch.push_back(key->declaration);
    for (Rank server = 0; server < server_links_.size(); ++server) {
      add.placement.push_back(std::move(call.placement.lanes[server * lanes + lane]));
      if (!call.grants[server].empty()) add.grants[server] = call.grants[server][lane];
    }
    command(lane, std::move(add));
  }
  for (InflightKey* key : call.keys) {
    const bool nothing = self_.rank != 0 || !key->declaration.spec.from_worker_0;
    key->start(0);
    for (const std::uint32_t lane : key->lanes) command(lane, PushKey{key, 0, nothing});
  }
}

void Worker::on_key_initialised(InflightKey* key) {
  for (auto& [sequence, call] : running_) {
    if (call.kind != Call::Kind::kDeclare ||
        std::find(call.keys.begin(), call.keys.end(), key) == call.keys.end())
      continue;
    if (--call.keys_missing > 0) return;
    Status flushed;
    for (const InflightKey* initialised : call.keys)
      if (flushed.ok()) flushed = flush_parameters(*initialised);
    finish_call(sequence, std::move(flushed));
    return;
  }
}

void Worker::commit_remove(Call& call, const wire::CommitT& commit) {
  for (const Key key : commit.keys)
    if (Status removed = map_->remove(key); !removed.ok()) return fail(removed);
  call.lanes_missing = static_cast<std::uint32_t>(lanes_.size());
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane)
    command(lane, DropKeys{commit.sequence, call.keys});
}

void Worker::commit_share(const Call& call, const wire::CommitT& commit) {
  if (!commit.share || commit.share->bytes.size() != call.bytes.size() || call.bytes.empty())
    return fail(Status(Code::kProtocol, "the scheduler shared bytes nobody asked for"));
  if (call.share.root != self_.rank)
    std::memcpy(call.bytes.data(), commit.share->bytes.data(), call.bytes.size());
  finish_call(commit.sequence, {});
}

void Worker::on_keys_removed(std::uint64_t sequence) {
  const auto call = running_.find(sequence);
  if (call == running_.end() || --call->second.lanes_missing > 0) return;
  drop_keys(call->second.keys);
  finish_call(sequence, {});
}

}  // namespace penstock
