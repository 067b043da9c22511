// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/server.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/protocol/limits.h"
#include "engine/server/norm_update.h"
#include "transport/base/log.h"

namespace penstock {

Server::Server(const Clock& clock, Device& device, ControlHub& hub, const KernelTable& kernels,
               LaneHost& host, ServerOptions options)
    : clock_(clock),
      device_(device),
      kernels_(kernels),
      regions_(device),
      host_(host),
      options_(std::move(options)),
      links_(hub, clock, *this, options_.detect_ns),
      redial_(clock) {}

Status Server::start() {
  self_ = {Role::kServer,    options_.rank, options_.incarnation, options_.name, {},
           device_.address()};
  PENSTOCK_ASSIGN_OR_RETURN(self_.control_address, links_.listen(options_.listen_address));
  // The scheduler knows who is missing and says so in time; ours is the backstop.
  join_deadline_ns_ = clock_.now_ns() + options_.join_timeout_ns + options_.detect_ns;
  return dial_scheduler();
}

Status Server::dial_scheduler() {
  const Result<ChannelId> link = links_.connect(options_.scheduler_address, join_deadline_ns_);
  if (link.ok())
    scheduler_ = *link;
  else if (!redial_.again(link.status(), join_deadline_ns_))
    return link.status();
  return {};
}

std::size_t Server::run_once() {
  if (finished()) return links_.run_once();
  std::size_t done = links_.run_once() + device_.progress() + take_notices() + send_notes() +
                     start_copies() + exchange_norms();
  if (redial_.due())
    if (Status dialled = dial_scheduler(); !dialled.ok()) finish(std::move(dialled));
  if (!joined_ && clock_.now_ns() >= join_deadline_ns_) {
    finish(Status(Code::kTimeout, "the job did not start: some member never joined")
               .with_peer(options_.scheduler_address));
    ++done;
  }
  return done;
}

// Rounds with norms wait for this loop, so what lanes have ready must not wait for its next turn.
bool Server::arm() { return notes_.empty() && (norms_ == nullptr || norms_->may_sleep()); }

TimeNs Server::next_deadline_ns() const {
  if (finished()) return links_.next_deadline_ns();
  return std::min(
      {links_.next_deadline_ns(), redial_.next_ns(), joined_ ? kNever : join_deadline_ns_});
}

std::optional<Status> Server::finished() const {
  MutexLock lock(mutex_);
  return finished_;
}

void Server::finish(Status status) {
  if (finished()) return;
  leave_peers();
  MutexLock lock(mutex_);
  finished_ = std::move(status);
}

std::uint64_t Server::memory_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& lane : lanes_) bytes += lane->stats().memory_bytes.load();
  return bytes;
}

std::uint64_t Server::registered_bytes() const {
  std::uint64_t bytes = 0;
  for (const LaneMemory& memory : memory_) bytes += memory.registered_bytes();
  return bytes;
}

std::uint64_t Server::gradients_in_place() const {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->stats().in_place.load();
  return sum;
}

std::uint64_t Server::not_finite() const {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->stats().not_finite.load();
  return sum;
}

std::uint64_t Server::not_finite_from(Rank worker) const {
  std::uint64_t sum = 0;
  for (const auto& lane : lanes_) sum += lane->stats().not_finite_from[worker].load();
  return sum;
}

std::uint32_t Server::live_workers() const {
  return static_cast<std::uint32_t>(std::count_if(worker_links_.begin(), worker_links_.end(),
                                                  [](const WorkerLink& w) { return !w.gone; }));
}

void Server::command(std::uint32_t lane, ServerLaneCommand&& command) {
  CHECK(lanes_[lane]->command(std::move(command)), "lane {} does not take commands", lane);
}

// ---- links --------------------------------------------------------------------------------------

void Server::on_link_up(ChannelId link) {
  if (peer_of_.contains(link)) return greet_peer(link);
  wire::JoinT join;
  join.wire_version = kWireVersion;
  join.member = to_wire(self_);
  links_.send(link, std::move(join));
}

void Server::on_message(ChannelId link, wire::MessageT& message) {
  if (link == scheduler_) return on_scheduler_message(message);
  if (const auto rank = rank_of_.find(link); rank != rank_of_.end())
    return on_worker_message(link, rank->second, message);
  if (const auto peer = peer_of_.find(link); peer != peer_of_.end())
    return on_peer_message(link, peer->second, message);
  if (const wire::HelloT* hello = message.body.AsHello()) return on_hello(link, *hello);
  links_.refuse(link, {Code::kProtocol, "a server expects Hello first"});
}

void Server::on_link_down(ChannelId link, const Status& reason) {
  if (link == scheduler_) {
    scheduler_.reset();
    if (!joined_ && redial_.again(reason, join_deadline_ns_)) return;
    if (!joined_) return finish(reason);
    PENSTOCK_LOG_WARN("server {}: the scheduler is gone, rounds go on: {}", self_.rank,
                      reason.to_string());
    if (options_.notes != nullptr)
      options_.notes->on_gone(Role::kScheduler, 0,
                              {Code::kPeerLost, "the scheduler is lost: " + reason.to_string()});
    if (reported_) return end_alone(*reported_);  // nobody else will
    if (live_workers() == 0) finish({});
    return;
  }
  if (const auto peer = peer_of_.find(link); peer != peer_of_.end())
    return peer_died(peer->second, reason);
  const auto rank = rank_of_.find(link);
  if (rank == rank_of_.end()) return;  // never admitted
  const Rank worker = rank->second;
  rank_of_.erase(rank);
  if (!worker_links_[worker].gone) worker_died(worker, reason);
}

void Server::on_scheduler_message(wire::MessageT& message) {
  if (const auto* roster = message.body.AsRoster()) {
    if (!joined_) on_roster(*roster);
  } else if (const auto* commit = message.body.AsCommit()) {
    if (joined_) on_commit(*commit);
  } else if (const auto* membership = message.body.AsMembership()) {
    if (joined_) on_membership(*membership);
  } else if (const auto* note = message.body.AsNote()) {
    if (options_.notes != nullptr)
      options_.notes->on_note(static_cast<Role>(note->from), note->from_rank, note->body);
  } else if (const auto* stop = message.body.AsStop()) {
    finish(from_wire(stop->error));
    links_.close(*scheduler_);  // the scheduler waits for that
    scheduler_.reset();
  } else if (const auto* refused = message.body.AsRefused()) {
    const Status why = from_wire(refused->error);
    finish(why.ok() ? Status(Code::kProtocol, "refused without a reason") : why);
  }
}

void Server::on_worker_message(ChannelId link, Rank worker, wire::MessageT& message) {
  if (auto* open = message.body.AsOpenLane()) {
    on_open_lane(worker, *open);
  } else if (const auto* lend = message.body.AsLend()) {
    on_lend(worker, *lend);
  } else if (message.body.AsLeave() != nullptr) {
    drop_worker(worker);
    links_.close(link);
    rank_of_.erase(link);
    if (!scheduler_ && live_workers() == 0) finish({});
  } else {
    links_.refuse(link, {Code::kProtocol, "a message that workers do not send"});
    rank_of_.erase(link);
    worker_died(worker, {Code::kProtocol, "it sent a message that workers do not send"});
  }
}

// ---- joining ------------------------------------------------------------------------------------

void Server::on_roster(const wire::RosterT& roster) {
  Result<std::vector<Member>> members = from_wire(roster.members);
  if (!members.ok()) return finish(members.status());
  for (Member& member : *members)
    if (member.role == Role::kWorker)
      workers_.push_back(std::move(member));
    else if (member.role == Role::kServer)
      servers_.push_back(std::move(member));
  const auto servers = static_cast<std::uint32_t>(servers_.size());
  if (workers_.empty() || workers_.size() > kMaxJobWorkers || servers == 0 ||
      servers > kMaxJobServers || roster.lanes == 0 || roster.lanes > kMaxLanes ||
      roster.your_rank >= servers || roster.slice_bytes < kMinSliceBytes ||
      roster.slice_bytes > kMaxSliceBytes || roster.detect_ns <= 0)
    return finish(Status(Code::kProtocol, "a roster that makes no sense"));
  self_.rank = roster.your_rank;
  job_ = roster.job;
  links_.set_detect_ns(roster.detect_ns);
  map_ = std::make_unique<ShardMap>(servers, roster.lanes, roster.slice_bytes);
  const auto workers = static_cast<std::uint32_t>(workers_.size());
  worker_links_.resize(workers);
  peer_links_.resize(servers);
  norms_ = std::make_unique<NormExchange>(self_.rank, servers, norm_rings_);
  if (Status placed = place_memory(workers, roster.lanes); !placed.ok()) return finish(placed);
  for (std::uint32_t i = 0; i < roster.lanes; ++i) {
    NormRings& rings = norm_rings_.emplace_back();
    auto updater = make_updater(rings);
    if (!updater.ok()) return finish(updater.status());
    auto lane = ServerLane::create(i, workers, device_, std::move(*updater), waker_, regions_,
                                   options_.messages);
    if (!lane.ok()) return finish(lane.status());
    lanes_.push_back(std::move(*lane));
    rings.lane = &lanes_.back()->waker();
    if (Status started = host_.start_lane(*lanes_.back(), i); !started.ok()) return finish(started);
  }
  joined_ = true;
  running_.store(true, std::memory_order_release);
  for (auto& [link, hello] : early_) admit(link, hello);
  early_.clear();
}

void Server::on_hello(ChannelId link, const wire::HelloT& hello) {
  if (joined_) return admit(link, hello);
  if (early_.size() < kMaxJobWorkers) early_.emplace_back(link, hello);
}

void Server::admit(ChannelId link, const wire::HelloT& hello) {
  const Result<Member> member = from_wire(hello.member);
  if (!member.ok()) return links_.refuse(link, member.status());
  if (hello.wire_version != kWireVersion || hello.job != job_)
    return links_.refuse(link, {Code::kStale, "another job or another version of Penstock"});
  if (member->role == Role::kServer) return admit_peer(link, *member);
  if (member->role != Role::kWorker || member->rank >= workers_.size() ||
      workers_[member->rank].incarnation != member->incarnation)
    return links_.refuse(link, {Code::kStale, "the roster does not know " + describe(*member)});
  WorkerLink& worker = worker_links_[member->rank];
  if (worker.up || worker.gone)
    return links_.refuse(link, {Code::kAlreadyExists, describe(*member) + " was connected before"});
  worker = {link, true, false, false};
  rank_of_[link] = member->rank;
  links_.send(link, wire::WelcomeT{});
}

// ---- data connections ---------------------------------------------------------------------------

void Server::on_open_lane(Rank worker, wire::OpenLaneT& open) {
  if (open.lane >= lanes_.size() || open.next.size() > kMaxSlicesPerLane) return;
  command(open.lane, OpenEndpoint{worker, open.attempt, static_cast<ProviderKind>(open.provider),
                                  random_token(), clock_.now_ns() + links_.detect_ns(),
                                  std::move(open.next), open.next_message});
}

std::size_t Server::take_notices() {
  std::size_t taken = 0;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane)
    for (ServerLaneNotice notice; lanes_[lane]->notice(notice); ++taken) {
      if (auto* opened = std::get_if<EndpointOpened>(&notice)) {
        wire::LaneOpenedT message;
        message.lane = lane;
        message.attempt = opened->attempt;
        message.token.assign(opened->token.begin(), opened->token.end());
        message.next = std::move(opened->next);
        message.next_message = opened->next_message;
        links_.send(worker_links_[opened->worker].link, std::move(message));
      } else if (const auto* lost = std::get_if<EndpointLost>(&notice)) {
        PENSTOCK_LOG_DEBUG("server {} lane {}: data connection of worker {} lost: {}", self_.rank,
                           lane, lost->worker, lost->reason.to_string());
        wire::LaneLostT message;
        message.lane = lane;
        message.attempt = lost->attempt;
        links_.send(worker_links_[lost->worker].link, std::move(message));
      } else if (const auto* failed = std::get_if<UpdatesFailed>(&notice)) {
        updates_failed(lane, failed->reason);
      }
    }
  return taken;
}

// ---- who is here --------------------------------------------------------------------------------

void Server::drop_worker(Rank worker) {
  if (worker_links_[worker].dropped) return;
  worker_links_[worker].gone = worker_links_[worker].dropped = true;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) command(lane, DropWorker{worker});
}

void Server::on_membership(const wire::MembershipT& membership) {
  const Result<std::vector<Member>> left = from_wire(membership.left);
  if (!left.ok()) return;
  for (const Member& member : *left)
    if (member.role == Role::kWorker && member.rank < workers_.size()) drop_worker(member.rank);
}

// Policy "stop": the scheduler ends the job for everybody; without one, this server ends alone.
void Server::worker_died(Rank worker, const Status& reason) {
  worker_links_[worker].gone = true;
  member_died(workers_[worker], reason);
}

void Server::member_died(const Member& member, const Status& reason) {
  const Status lost = Status(Code::kPeerLost, describe(member) + " is lost: " + reason.to_string());
  PENSTOCK_LOG_WARN("server {}: {}", self_.rank, lost.to_string());
  reported_ = lost;
  if (scheduler_) return report(member, reason);
  end_alone(lost);
}

// The same, for a reason of its own.
void Server::updates_failed(std::uint32_t lane, const Status& reason) {
  PENSTOCK_LOG_ERROR("server {} lane {}: {}", self_.rank, lane, reason.to_string());
  reported_ = reason;
  if (scheduler_) return report(self_, reason);
  end_alone(reason);
}

void Server::end_alone(const Status& reason) {
  for (Rank other = 0; other < workers_.size(); ++other)
    if (!worker_links_[other].gone && worker_links_[other].up)
      links_.refuse(worker_links_[other].link, reason);
  finish(reason);
}

void Server::report(const Member& member, const Status& reason) {
  wire::ReportT report;
  report.member = to_wire(member);
  report.error = to_wire(reason);
  links_.send(*scheduler_, std::move(report));
}

}  // namespace penstock
