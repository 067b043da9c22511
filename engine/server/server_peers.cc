// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// Server to server: what whole-tensor norms need. Of two servers that share a tensor or a group of
// them, the one of the higher rank dials when it is declared; nobody else ever does.

#include "engine/protocol/limits.h"
#include "engine/server/server.h"
#include "transport/base/log.h"

namespace penstock {
namespace {

// Numbers in one message: 4 MiB, well below the largest frame.
constexpr std::size_t kMaxNumbers = std::size_t{1} << 19;

}  // namespace

void Server::connect_peers(const std::set<Rank>& peers) {
  for (const Rank server : peers) {
    PeerLink& peer = peer_links_[server];
    if (server >= self_.rank || peer.link || peer.gone) continue;
    const auto link = links_.connect(servers_[server].control_address,
                                     clock_.now_ns() + options_.join_timeout_ns);
    if (!link.ok()) {
      peer_died(server, link.status());
      continue;
    }
    peer.link = *link;
    peer_of_[*link] = server;
  }
}

void Server::greet_peer(ChannelId link) {
  wire::HelloT hello;
  hello.wire_version = kWireVersion;
  hello.job = job_;
  hello.member = to_wire(self_);
  links_.send(link, std::move(hello));
}

void Server::admit_peer(ChannelId link, const Member& member) {
  if (member.rank <= self_.rank || member.rank >= servers_.size() ||
      servers_[member.rank].incarnation != member.incarnation)
    return links_.refuse(link, {Code::kStale, "the roster does not know " + describe(member)});
  PeerLink& peer = peer_links_[member.rank];
  if (peer.link || peer.gone)
    return links_.refuse(link, {Code::kAlreadyExists, describe(member) + " was connected before"});
  peer = {link, true, false};
  peer_of_[link] = member.rank;
  links_.send(link, wire::WelcomeT{});
  send_norms();
}

void Server::on_peer_message(ChannelId link, Rank server, const wire::MessageT& message) {
  if (finished()) return;
  if (const auto* norms = message.body.AsNormPartials()) {
    const Status taken = norms_->receive(server, *norms);
    if (taken.ok()) return;
    links_.refuse(link, taken);
    peer_died(server, taken);
  } else if (message.body.AsWelcome() != nullptr) {
    peer_links_[server].up = true;
    send_norms();
  } else if (message.body.AsLeave() != nullptr) {  // the job is over for it
    peer_links_[server] = {{}, false, true};
    peer_of_.erase(link);
    links_.close(link);
  } else if (const auto* refused = message.body.AsRefused()) {
    const Status why = from_wire(refused->error);
    links_.close(link);
    peer_died(server, why.ok() ? Status(Code::kProtocol, "refused without a reason") : why);
  } else {
    const Status wrong(Code::kProtocol, "it sent a message that servers do not send");
    links_.refuse(link, wrong);
    peer_died(server, wrong);
  }
}

// Rounds with norms cannot go on without it, and its slices are lost for all others as well.
void Server::peer_died(Rank server, const Status& reason) {
  PeerLink& peer = peer_links_[server];
  if (peer.gone) return;
  if (peer.link) peer_of_.erase(*peer.link);
  peer = {{}, false, true};
  if (!finished() && live_workers() > 0) member_died(servers_[server], reason);
}

// What the others are told, so that they do not take the end of this process for a death.
void Server::leave_peers() {
  for (PeerLink& peer : peer_links_) {
    if (!peer.link) continue;
    if (peer.up) links_.send(*peer.link, wire::LeaveT{});
    links_.close(*peer.link);
    peer_of_.erase(*peer.link);
    peer = {{}, false, true};
  }
}

std::size_t Server::exchange_norms() {
  if (norms_ == nullptr) return 0;
  const std::size_t done = norms_->run_once();
  if (done > 0) send_norms();
  const std::string late = norms_->overdue(clock_.now_ns(), links_.detect_ns());
  if (!late.empty()) PENSTOCK_LOG_WARN("server {}: {}", self_.rank, late);
  return done;
}

void Server::send_norms() {
  for (Rank server = 0; server < peer_links_.size(); ++server) {
    const PeerLink& peer = peer_links_[server];
    if (!peer.up) continue;
    wire::NormPartialsT all = norms_->take_outgoing(server);
    wire::NormPartialsT message;
    std::size_t numbers = 0;
    for (auto& part : all.parts) {
      if (numbers > 0 && numbers + part->values.size() > kMaxNumbers) {
        links_.send(*peer.link, std::exchange(message, {}));
        numbers = 0;
      }
      numbers += part->values.size();
      message.parts.push_back(std::move(part));
    }
    if (numbers > 0) links_.send(*peer.link, std::move(message));
  }
}

}  // namespace penstock
