// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler/scheduler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "transport/base/log.h"
#include "transport/base/random.h"

namespace penstock {

Status validate(const SchedulerOptions& options) {
  const auto bounded = [](const char* what, std::uint64_t value, std::uint64_t low,
                          std::uint64_t high) -> Status {
    if (value >= low && value <= high) return {};
    return {Code::kInvalidArgument, fmt::format("{} {}: must be {} to {}", value, what, low, high)};
  };
  PENSTOCK_RETURN_IF_ERROR(bounded("workers", options.workers, 1, kMaxJobWorkers));
  PENSTOCK_RETURN_IF_ERROR(bounded("servers", options.servers, 0, kMaxJobServers));
  PENSTOCK_RETURN_IF_ERROR(bounded("lanes", options.lanes, 1, kMaxLanes));
  return bounded("bytes a slice", options.slice_bytes, kMinSliceBytes, kMaxSliceBytes);
}

Scheduler::Scheduler(const Clock& clock, ControlHub& hub, SchedulerOptions options)
    : clock_(clock),
      options_(std::move(options)),
      links_(hub, clock, *this, options_.detect_ns),
      job_(random_u64()) {}

Status Scheduler::start() {
  PENSTOCK_RETURN_IF_ERROR(validate(options_));
  PENSTOCK_ASSIGN_OR_RETURN(address_, links_.listen(options_.listen_address));
  join_deadline_ns_ = clock_.now_ns() + options_.join_timeout_ns;
  return {};
}

std::size_t Scheduler::run_once() {
  std::size_t done = links_.run_once();
  if (finished()) return done;
  const TimeNs now_ns = clock_.now_ns();
  if (stopping()) {
    finish_if_drained();
    return done;
  }
  if (now_ns >= join_deadline_ns_) {
    stop({Code::kTimeout, "the job did not start: waited in vain for " + who_is_missing()});
    return done + 1;
  }
  for (Note& note : notes_.take()) {
    pass_on(Role::kScheduler, 0, std::move(note));
    ++done;
  }
  if (collectives_ && now_ns >= collectives_->next_deadline_ns())
    for (const Collectives::Outcome& outcome : collectives_->expire(now_ns)) {
      answer(outcome);
      ++done;
    }
  return done;
}

TimeNs Scheduler::next_deadline_ns() const {
  if (finished()) return links_.next_deadline_ns();
  return std::min({links_.next_deadline_ns(), join_deadline_ns_, stop_deadline_ns_,
                   collectives_ ? collectives_->next_deadline_ns() : kNever});
}

std::optional<Status> Scheduler::finished() const {
  MutexLock lock(mutex_);
  return finished_;
}

Scheduler::Node* Scheduler::node_of(ChannelId link) {
  for (const auto& node : nodes_)
    if (node->link == link && !node->gone) return node.get();
  return nullptr;
}

std::uint32_t Scheduler::live(Role role) const {
  return static_cast<std::uint32_t>(
      std::count_if(nodes_.begin(), nodes_.end(),
                    [role](const auto& node) { return node->member.role == role && !node->gone; }));
}

std::string Scheduler::who_is_missing() const {
  std::vector<std::string> missing;
  if (live(Role::kServer) < options_.servers)
    missing.push_back(
        fmt::format("{} of {} servers", options_.servers - live(Role::kServer), options_.servers));
  if (live(Role::kWorker) < options_.workers)
    missing.push_back(
        fmt::format("{} of {} workers", options_.workers - live(Role::kWorker), options_.workers));
  return fmt::format("{}", fmt::join(missing, " and "));
}

// ---- messages -----------------------------------------------------------------------------------

void Scheduler::on_message(ChannelId link, wire::MessageT& message) {
  Node* const node = node_of(link);
  if (stopping()) return;
  if (node == nullptr) {
    if (const auto* join = message.body.AsJoin()) return on_join(link, *join);
    return links_.refuse(link, {Code::kProtocol, "the scheduler expects Join first"});
  }
  if (const auto* collective = message.body.AsCollective()) {
    on_collective(*node, *collective);
  } else if (message.body.AsLeave() != nullptr) {
    on_leave(*node);
  } else if (const auto* report = message.body.AsReport()) {
    on_report(*node, *report);
  } else if (auto* note = message.body.AsNote()) {
    pass_on(node->member.role, node->member.rank,
            {static_cast<Role>(note->to), note->to_rank, std::move(note->body)});
  } else {
    const Status wrong(Code::kProtocol, "it sent a message the scheduler does not take");
    links_.refuse(link, wrong);
    lost(*node, wrong);
  }
}

void Scheduler::on_link_down(ChannelId link, const Status& reason) {
  Node* const node = node_of(link);
  if (node == nullptr) return;
  if (stopping())
    node->gone = true;
  else
    lost(*node, reason);
}

// ---- joining ------------------------------------------------------------------------------------

Result<Rank> Scheduler::give_rank(const Member& member) const {
  const std::uint32_t size = member.role == Role::kWorker ? options_.workers : options_.servers;
  if (size == 0)
    return Status(Code::kInvalidArgument, "this job has no servers, only collective calls")
        .with_hint("tell the scheduler how many there are (--servers)");
  std::vector<const Node*> taken(size);
  for (const auto& node : nodes_)
    if (node->member.role == member.role && !node->gone) taken[node->member.rank] = node.get();
  if (member.rank == kAnyRank) {
    const auto free = std::find(taken.begin(), taken.end(), nullptr);
    if (free != taken.end()) return static_cast<Rank>(free - taken.begin());
    return Status(Code::kAlreadyExists,
                  fmt::format("all {} {}s of this job are here", size, role_name(member.role)));
  }
  if (member.rank >= size)
    return Status(Code::kInvalidArgument, fmt::format("{} rank {}: this job has {}, counted from 0",
                                                      role_name(member.role), member.rank, size));
  if (const Node* other = taken[member.rank])
    return Status(Code::kAlreadyExists,
                  fmt::format("{} rank {} is taken by {}", role_name(member.role), member.rank,
                              other->member.name))
        .with_hint("start each rank once");
  return member.rank;
}

void Scheduler::on_join(ChannelId link, const wire::JoinT& join) {
  if (join.wire_version != kWireVersion)
    return links_.refuse(
        link, {Code::kUnsupported, fmt::format("the scheduler speaks wire version {}, this node {}",
                                               kWireVersion, join.wire_version)});
  Result<Member> member = from_wire(join.member);
  if (!member.ok()) return links_.refuse(link, member.status());
  if (member->role == Role::kScheduler)
    return links_.refuse(link, {Code::kInvalidArgument, "a job has one scheduler"});
  const Result<Rank> rank = give_rank(*member);
  if (!rank.ok()) return links_.refuse(link, rank.status());
  if (collectives_)
    return links_.refuse(link, {Code::kAlreadyExists, "the job is running; nobody can join now"});
  member->rank = rank.value();
  nodes_.push_back(std::make_unique<Node>(Node{std::move(*member), link, false}));
  if (live(Role::kWorker) == options_.workers && live(Role::kServer) == options_.servers)
    publish_roster();
}

void Scheduler::publish_roster() {
  join_deadline_ns_ = kNever;
  std::sort(nodes_.begin(), nodes_.end(), [](const auto& a, const auto& b) {
    return std::pair(a->member.role, a->member.rank) < std::pair(b->member.role, b->member.rank);
  });
  std::vector<Member> workers;
  for (const auto& node : nodes_)
    if (node->member.role == Role::kWorker) workers.push_back(node->member);
  collectives_ = std::make_unique<Collectives>(std::move(workers));
  for (const auto& node : nodes_) {
    wire::RosterT roster;
    roster.epoch = epoch_;
    roster.job = job_;
    roster.your_rank = node->member.rank;
    roster.lanes = options_.lanes;
    roster.slice_bytes = options_.slice_bytes;
    roster.detect_ns = options_.detect_ns;
    for (const auto& other : nodes_) roster.members.push_back(to_wire(other->member));
    links_.send(node->link, std::move(roster));
  }
}

// ---- collective calls ---------------------------------------------------------------------------

namespace {

bool makes_sense(const wire::ShareT& share, Rank from, std::uint32_t workers) {
  return share.size > 0 && share.size <= kMaxShareBytes && share.name.size() <= kMaxNameBytes &&
         share.root < workers && share.bytes.size() == (share.root == from ? share.size : 0);
}

bool changes_shard_map(wire::CollectiveKind kind) {
  return kind == wire::CollectiveKind::Declare || kind == wire::CollectiveKind::Remove;
}

}  // namespace

void Scheduler::on_collective(Node& node, const wire::CollectiveT& message) {
  if (!collectives_ || node.member.role != Role::kWorker) return;
  CollectiveCall call;
  call.kind = message.kind;
  call.keys = message.keys;
  Result<std::vector<Declaration>> declarations = from_wire(message.declarations);
  if (!declarations.ok()) return lost(node, declarations.status());
  call.declarations = std::move(*declarations);
  if (call.kind == wire::CollectiveKind::Share) {
    if (!message.share || !makes_sense(*message.share, node.member.rank, options_.workers))
      return lost(node, {Code::kProtocol, "it shares bytes that make no sense"});
    call.share = *message.share;
  }
  const TimeNs timeout_ns = std::clamp(message.timeout_ns, kMillisecond, 3600 * kSecond);
  if (auto outcome = collectives_->add(node.member.rank, message.sequence, std::move(call),
                                       clock_.now_ns() + timeout_ns))
    commit(*outcome);
}

void Scheduler::commit(const Collectives::Outcome& outcome) {
  if (!outcome.error.ok()) return answer(outcome);
  Collectives::Outcome refused = outcome;
  for (const Declaration& declaration : outcome.call.declarations)
    if (declared_.contains(declaration.key))
      refused.error = {Code::kAlreadyExists, describe(declaration) + " is declared already"};
  for (const Key key : outcome.call.keys)
    if (!declared_.contains(key))
      refused.error = {Code::kNotFound, fmt::format("key {} is not declared", key)};
  if (!refused.error.ok()) return answer(refused);
  for (const Declaration& declaration : outcome.call.declarations)
    declared_.insert(declaration.key);
  for (const Key key : outcome.call.keys) declared_.erase(key);

  wire::CommitT commit;
  commit.sequence = outcome.sequence;
  commit.kind = outcome.call.kind;
  commit.keys = outcome.call.keys;
  for (const Declaration& declaration : outcome.call.declarations)
    commit.declarations.push_back(to_wire(declaration));
  if (commit.kind == wire::CollectiveKind::Share)
    commit.share = std::make_unique<wire::ShareT>(outcome.call.share);
  const bool to_servers = changes_shard_map(commit.kind);
  commit.order = to_servers ? ++order_ : 0;
  const std::vector<std::byte> frame = encode_body(std::move(commit));
  for (const auto& node : nodes_)
    if (!node->gone && (node->member.role == Role::kWorker || to_servers))
      links_.send_frame(node->link, frame);
}

void Scheduler::answer(const Collectives::Outcome& outcome) {
  for (const auto& node : nodes_) {
    if (node->gone || node->member.role != Role::kWorker ||
        std::find(outcome.waiting.begin(), outcome.waiting.end(), node->member.rank) ==
            outcome.waiting.end())
      continue;
    wire::CollectiveFailedT failed;
    failed.sequence = outcome.sequence;
    failed.error = to_wire(outcome.error);
    links_.send(node->link, std::move(failed));
  }
}

// ---- who is here --------------------------------------------------------------------------------

void Scheduler::on_leave(Node& node) {
  if (!collectives_ || node.member.role != Role::kWorker) return;
  node.gone = true;
  if (options_.notes != nullptr) options_.notes->on_gone(node.member.role, node.member.rank, {});
  links_.send(node.link, wire::StopT{});  // its leave is done
  links_.close(node.link);
  ++epoch_;
  for (const auto& other : nodes_) {
    if (other->gone) continue;
    wire::MembershipT membership;
    membership.epoch = epoch_;
    membership.left.push_back(to_wire(node.member));
    links_.send(other->link, std::move(membership));
  }
  for (const Collectives::Outcome& outcome : collectives_->leave(node.member.rank)) commit(outcome);
  if (live(Role::kWorker) == 0) stop({});
}

void Scheduler::on_report(const Node& from, const wire::ReportT& report) {
  const Result<Member> member = from_wire(report.member);
  const Status why = from_wire(report.error);
  if (!member.ok() || why.ok()) return;
  for (const auto& node : nodes_)
    if (node->member.incarnation == member->incarnation && !node->gone)
      return node.get() == &from ? stop(std::move(Status(why)).with_peer(describe(from.member)))
                                 : lost(*node, why);
}

Status Scheduler::send_note(Note&& note) {
  PENSTOCK_RETURN_IF_ERROR(check_note(note));
  notes_.push(std::move(note));
  waker_.wake();
  return {};
}

void Scheduler::pass_on(Role from, Rank rank, Note&& note) {
  if (note.body.size() > kMaxNoteBytes) return;
  if (note.role == Role::kScheduler) {
    if (options_.notes != nullptr) options_.notes->on_note(from, rank, note.body);
    return;
  }
  for (const auto& node : nodes_) {
    if (node->gone || node->member.role != note.role || node->member.rank != note.rank) continue;
    wire::NoteT message;
    message.from = static_cast<wire::Role>(from);
    message.from_rank = rank;
    message.to = static_cast<wire::Role>(note.role);
    message.to_rank = note.rank;
    message.body = std::move(note.body);
    return links_.send(node->link, std::move(message));
  }
}

// Policy "stop": the job ends for everybody, and everybody is told who and why.
void Scheduler::lost(Node& node, const Status& reason) {
  node.gone = true;
  const Status why(Code::kPeerLost, describe(node.member) + " is lost: " + reason.to_string());
  if (!collectives_) {  // it can be started again until the job runs
    PENSTOCK_LOG_WARN("scheduler: before the job started, {}", why.to_string());
    return;
  }
  if (options_.notes != nullptr) options_.notes->on_gone(node.member.role, node.member.rank, why);
  stop(why);
}

void Scheduler::stop(const Status& reason) {
  if (stopping()) return;
  outcome_ = reason;
  join_deadline_ns_ = kNever;
  stop_deadline_ns_ = clock_.now_ns() + links_.detect_ns();
  for (Note& note : notes_.take()) pass_on(Role::kScheduler, 0, std::move(note));
  for (const auto& node : nodes_) {
    if (node->gone) continue;
    wire::StopT message;
    message.error = to_wire(reason);
    links_.send(node->link, std::move(message));
  }
  finish_if_drained();
}

// Nodes close their links once they have been told; nobody waits for one that does not.
void Scheduler::finish_if_drained() {
  const bool drained =
      std::all_of(nodes_.begin(), nodes_.end(), [](const auto& node) { return node->gone; });
  if (!drained && clock_.now_ns() < stop_deadline_ns_) return;
  MutexLock lock(mutex_);
  if (!finished_) finished_ = outcome_;
}

}  // namespace penstock
