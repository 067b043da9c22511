// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The control loop of Worker: joining, links to the scheduler and the servers, data connections.

#include <fmt/format.h>

#include <algorithm>

#include "engine/worker/worker.h"
#include "transport/base/log.h"

namespace penstock {

Status Worker::start() {
  self_ = {Role::kWorker, options_.rank, options_.incarnation, options_.name, {}, {}};
  // The scheduler knows who is missing and says so in time; ours is the backstop.
  join_deadline_ns_ = call_deadline_ns() + options_.detect_ns;
  return dial_scheduler();
}

Status Worker::dial_scheduler() {
  const Result<ChannelId> link = links_.connect(options_.scheduler_address, join_deadline_ns_);
  if (link.ok())
    scheduler_ = *link;
  else if (!redial_.again(link.status(), join_deadline_ns_))
    return link.status();
  return {};
}

Rank Worker::server_of(ChannelId link) const {
  for (Rank server = 0; server < server_links_.size(); ++server)
    if (server_links_[server].link == link) return server;
  return kAnyRank;
}

void Worker::on_link_up(ChannelId link) {
  if (link == scheduler_) {
    wire::JoinT join;
    join.wire_version = kWireVersion;
    join.member = to_wire(self_);
    return links_.send(link, std::move(join));
  }
  wire::HelloT hello;
  hello.wire_version = kWireVersion;
  hello.job = job_;
  hello.member = to_wire(self_);
  links_.send(link, std::move(hello));
}

void Worker::on_message(ChannelId link, wire::MessageT& message) {
  if (failed_.load(std::memory_order_relaxed)) return;
  if (link == scheduler_) return on_scheduler_message(message);
  if (const Rank server = server_of(link); server != kAnyRank) on_server_message(server, message);
}

void Worker::on_link_down(ChannelId link, const Status& reason) {
  if (link == scheduler_) {
    scheduler_.reset();
    if (leaving_) return;
    const bool joined = joined_.load(std::memory_order_relaxed);
    if (!joined && redial_.again(reason, join_deadline_ns_)) return;
    if (!joined) return fail(reason);
    // Nothing on the data path stops; calls that needed it end now.
    const Status lost = Status(Code::kPeerLost, "the scheduler is lost: " + reason.to_string())
                            .with_peer(options_.scheduler_address);
    PENSTOCK_LOG_WARN("worker {}: {}", self_.rank, lost.to_string());
    if (options_.notes != nullptr) options_.notes->on_gone(Role::kScheduler, 0, lost);
    std::vector<std::uint64_t> sequences;
    for (auto& [sequence, call] : running_) {
      if (call.order == 0 && call.lanes_missing == 0) sequences.push_back(sequence);
      // Committed here, perhaps not everywhere: it gets a little longer.
      call.deadline_ns = std::min(call.deadline_ns, clock_.now_ns() + links_.detect_ns());
    }
    for (const std::uint64_t sequence : sequences) finish_call(sequence, lost);
    return;
  }
  const Rank server = server_of(link);
  if (server == kAnyRank) return;
  server_links_[server].link.reset();
  if (leaving_) return;
  fail(Status(Code::kPeerLost,
              describe(server_links_[server].member) + " is lost: " + reason.to_string()));
}

void Worker::on_scheduler_message(wire::MessageT& message) {
  if (const auto* roster = message.body.AsRoster()) {
    if (!map_) on_roster(*roster);
  } else if (const auto* commit = message.body.AsCommit()) {
    on_commit(*commit);
  } else if (const auto* failed = message.body.AsCollectiveFailed()) {
    const Status why = from_wire(failed->error);
    finish_call(failed->sequence,
                why.ok() ? Status(Code::kProtocol, "failed without a reason") : why);
  } else if (const auto* note = message.body.AsNote()) {
    if (options_.notes != nullptr)
      options_.notes->on_note(static_cast<Role>(note->from), note->from_rank, note->body);
  } else if (const auto* stop = message.body.AsStop()) {
    const Status why = from_wire(stop->error);
    fail(why.ok() ? Status(Code::kCancelled, "the scheduler ended the job") : why);
    links_.close(*scheduler_);
    scheduler_.reset();
  } else if (const auto* refused = message.body.AsRefused()) {
    const Status why = from_wire(refused->error);
    fail(why.ok() ? Status(Code::kProtocol, "refused without a reason") : why);
  }
}

void Worker::on_server_message(Rank server, wire::MessageT& message) {
  if (message.body.AsWelcome() != nullptr) {
    server_links_[server].welcome = true;
    for (LaneLink& lane : server_links_[server].lanes) lane.retry_ns = clock_.now_ns();
  } else if (auto* opened = message.body.AsLaneOpened()) {
    on_lane_opened(server, *opened);
  } else if (const auto* lost = message.body.AsLaneLost()) {
    on_lane_lost(server, *lost);
  } else if (const auto* grant = message.body.AsGrant()) {
    on_grant(server, *grant);
  } else if (const auto* refused = message.body.AsRefused()) {
    const Status why = from_wire(refused->error);
    fail(why.ok() ? Status(Code::kProtocol, "refused without a reason") : why);
  }
}

void Worker::on_roster(const wire::RosterT& roster) {
  Result<std::vector<Member>> members = from_wire(roster.members);
  if (!members.ok()) return fail(members.status());
  std::uint32_t workers = 0;
  for (const Member& member : *members) {
    if (member.role == Role::kWorker) ++workers;
    if (member.role == Role::kServer)
      server_links_.push_back({member, {}, {}, false, std::vector<LaneLink>(roster.lanes)});
  }
  if (server_links_.size() > kMaxJobServers || roster.lanes == 0 || roster.lanes > kMaxLanes ||
      workers == 0 || workers > kMaxJobWorkers || roster.your_rank >= workers ||
      roster.slice_bytes < kMinSliceBytes || roster.slice_bytes > kMaxSliceBytes ||
      roster.detect_ns <= 0)
    return fail(Status(Code::kProtocol, "a roster that makes no sense"));
  self_.rank = roster.your_rank;
  job_ = roster.job;
  epoch_ = roster.epoch;
  links_.set_detect_ns(roster.detect_ns);
  const auto servers = static_cast<std::uint32_t>(server_links_.size());
  {
    MutexLock lock(mutex_);
    rank_ = self_.rank;
    workers_ = workers;
    servers_ = servers;
    slice_bytes_ = roster.slice_bytes;
  }
  map_ = std::make_unique<ShardMap>(servers, roster.lanes, roster.slice_bytes);
  if (servers == 0) return check_joined();  // nothing to connect to, nothing for lanes to do
  if (const Status started = start_lanes(roster); !started.ok()) return fail(started);
  for (ServerLink& server : server_links_) {
    auto link = links_.connect(server.member.control_address, join_deadline_ns_);
    if (!link.ok()) return fail(link.status());
    server.link = *link;
  }
}

Status Worker::start_lanes(const wire::RosterT& roster) {
  const auto servers = static_cast<std::uint32_t>(server_links_.size());
  for (std::uint32_t i = 0; i < roster.lanes; ++i) {
    PENSTOCK_ASSIGN_OR_RETURN(
        auto lane, WorkerLane::create(i, servers, device_, waker_, regions_, options_.messages));
    lanes_.push_back(std::move(lane));
    PENSTOCK_RETURN_IF_ERROR(host_.start_lane(*lanes_.back(), i));
  }
  return {};
}

// ---- data connections: worker asks (OpenLane), server answers with a token (LaneOpened)
// ----------

std::size_t Worker::open_lanes() {
  std::size_t opened = 0;
  const TimeNs now_ns = clock_.now_ns();
  for (ServerLink& server : server_links_) {
    if (!server.welcome || !server.link) continue;
    for (std::uint32_t i = 0; i < server.lanes.size(); ++i) {
      LaneLink& lane = server.lanes[i];
      if (now_ns < lane.retry_ns) continue;
      lane.retry_ns = kNever;
      command(i, ReportNext{server.member.rank, ++lane.attempt});
      ++opened;
    }
  }
  return opened;
}

void Worker::send_open_lane(std::uint32_t index, NextRounds& rounds) {
  ServerLink& server = server_links_[rounds.server];
  LaneLink& lane = server.lanes[index];
  if (!server.link || rounds.attempt != lane.attempt) return;
  const Result<ProviderKind> provider = choose_route(server);
  if (!provider.ok()) return fail(Status(provider.status()).with_peer(describe(server.member)));
  lane.provider = *provider;
  lane.asked = true;
  wire::OpenLaneT message;
  message.lane = index;
  message.attempt = rounds.attempt;
  message.next = std::move(rounds.next);
  message.next_message = rounds.next_message;
  message.provider = static_cast<std::uint8_t>(lane.provider);
  links_.send(*server.link, std::move(message));
}

// One line per peer says what carries its data and why, again whenever that changes.
Result<ProviderKind> Worker::choose_route(ServerLink& server) {
  PENSTOCK_ASSIGN_OR_RETURN(const Route route, device_.route(server.member.data_address));
  if (route.why != server.route) {
    server.route = route.why;
    PENSTOCK_LOG_INFO("{}: data by {}", describe(server.member), route.why);
  }
  return route.provider;
}

void Worker::on_lane_opened(Rank server, wire::LaneOpenedT& opened) {
  if (opened.lane >= lanes_.size()) return;
  LaneLink& lane = server_links_[server].lanes[opened.lane];
  const Result<Token> token = token_from_wire(opened.token);
  if (opened.attempt != lane.attempt || !lane.asked || !token.ok()) return;
  lane.asked = false;
  command(opened.lane, ConnectServer{server, opened.attempt, lane.provider,
                                     server_links_[server].member.data_address, token.value(),
                                     clock_.now_ns() + links_.detect_ns(), std::move(opened.next),
                                     opened.next_message});
}

void Worker::on_lane_lost(Rank server, const wire::LaneLostT& lost) {
  if (lost.lane >= lanes_.size()) return;
  LaneLink& lane = server_links_[server].lanes[lost.lane];
  if (lost.attempt != lane.attempt) return;
  if (lane.asked) {  // it could not even start to accept
    lane.asked = false;
    return lane_down(lost.lane, {server, lost.attempt, Status(Code::kConnectionLost, "refused")});
  }
  command(lost.lane, DisconnectServer{server, lost.attempt});
}

void Worker::lane_down(std::uint32_t index, const ServerDisconnected& down) {
  LaneLink& lane = server_links_[down.server].lanes[index];
  PENSTOCK_LOG_DEBUG("worker {} lane {}: data connection to server {} lost: {}", self_.rank, index,
                     down.server, down.reason.to_string());
  // It never came up by this way: another may do better.
  if (!lane.up)
    device_.avoid(server_links_[down.server].member.data_address, lane.provider, down.reason);
  lane.up = false;
  lane.retry_ns = clock_.now_ns() + lane.delay_ns;
  lane.delay_ns = lane.delay_ns == 0 ? kReconnectFirstDelayNs
                                     : std::min(2 * lane.delay_ns, kReconnectMaxDelayNs);
}

void Worker::check_joined() {
  for (const ServerLink& server : server_links_)
    for (const LaneLink& lane : server.lanes)
      if (!lane.up) return;
  if (joined_.exchange(true, std::memory_order_release)) return;
  join_deadline_ns_ = kNever;
  complete(kJoinTicket, {});
}

std::size_t Worker::take_notices() {
  std::size_t taken = 0;
  for (std::uint32_t index = 0; index < lanes_.size(); ++index)
    for (WorkerLaneNotice notice; lanes_[index]->notice(notice); ++taken) {
      if (const auto* up = std::get_if<ServerConnected>(&notice)) {
        LaneLink& lane = server_links_[up->server].lanes[index];
        PENSTOCK_LOG_DEBUG("worker {} lane {}: data connection to server {} is up", self_.rank,
                           index, up->server);
        lane.up = true;
        lane.delay_ns = 0;
        check_joined();
      } else if (const auto* down = std::get_if<ServerDisconnected>(&notice)) {
        lane_down(index, *down);
      } else if (auto* rounds = std::get_if<NextRounds>(&notice)) {
        send_open_lane(index, *rounds);
      } else if (const auto* key = std::get_if<KeyInitialised>(&notice)) {
        on_key_initialised(key->key);
      } else if (const auto* broken = std::get_if<KeyFailed>(&notice)) {
        on_key_failed(broken->key, broken->reason);
      } else if (const auto* removed = std::get_if<KeysRemoved>(&notice)) {
        on_keys_removed(removed->sequence);
      }
    }
  return taken;
}

}  // namespace penstock
