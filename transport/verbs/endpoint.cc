// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/endpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "transport/base/check.h"
#include "transport/verbs/listener.h"
#include "transport/verbs/queue.h"
#include "transport/verbs/region.h"

// Its life: connecting and ending. Posts and what comes out is endpoint_io.cc.

namespace penstock::verbs {

VerbsEndpoint::VerbsEndpoint(VerbsQueue& queue, const EndpointContext& context, Listener* listener,
                             const EndpointOptions& options)
    : queue_(queue),
      context_(context),
      listener_(listener),
      options_(options),
      serial_(queue.attach(*this, options.deadline_ns)),
      state_(listener == nullptr ? State::kConnecting : State::kWaiting),
      posts_(options.send_depth),
      arrivals_(kPaths * queue.window()) {}

VerbsEndpoint::~VerbsEndpoint() {
  if (state_ <= State::kOpen && listener_ != nullptr) listener_->forget(queue_, serial_);
  for (std::unique_ptr<Path>& path : paths_) {
    if (path == nullptr) continue;
    path->shut();
    path->orphan();
    if (!path->gone()) queue_.keep(std::move(path));
  }
  if (messages_.mr != nullptr)
    CHECK(queue_.api().ibv_dereg_mr(messages_.mr) == 0, "a ring does not deregister");
  if (rail_ != nullptr) rail_->rail().health().drop_connection();
  queue_.detach(*this);
}

Status VerbsEndpoint::start(const std::vector<IpAddress>& peer) {
  settle_on(queue_.choose_rail(peer.size()));
  peer_address_ = peer[rail_->rail().index()];
  peer_ = peer_address_.to_string();
  PENSTOCK_ASSIGN_OR_RETURN(Path * path, add_path());
  return path->dial(queue_.cm(), peer_address_, greeting(*path));
}

void VerbsEndpoint::settle_on(RailQueue& rail) {
  rail_ = &rail;
  rail.rail().health().add_connection();
}

Result<Path*> VerbsEndpoint::add_path() {
  const auto index = static_cast<std::uint8_t>(paths_added_);
  PENSTOCK_ASSIGN_OR_RETURN(
      paths_[index],
      Path::create(*this, *rail_, index == 0 ? options_.scope : kAnyScope, index, queue_.window()));
  ++paths_added_;
  if (index == 0) PENSTOCK_RETURN_IF_ERROR(make_ring());
  return paths_[index].get();
}

Status VerbsEndpoint::make_ring() {
  if (context_.message_bytes == 0) return {};
  messages_.bytes.resize(std::size_t{queue_.window()} * context_.message_bytes);
  PENSTOCK_ASSIGN_OR_RETURN(messages_.mr,
                            register_bytes(paths_[0]->domain(), messages_.bytes,
                                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
  return {};
}

Greeting VerbsEndpoint::greeting(const Path& path) const {
  Greeting ours;
  ours.path = path.index();
  ours.rail = static_cast<std::uint8_t>(path.rail().index());
  ours.scoped = options_.scope != kAnyScope;
  ours.incarnation = context_.incarnation;
  ours.window = static_cast<std::uint16_t>(path.window());
  ours.message_bytes = context_.message_bytes;
  if (messages_.mr != nullptr) {
    ours.ring_address = reinterpret_cast<std::uint64_t>(messages_.bytes.data());
    ours.ring_key = messages_.mr->rkey;
  }
  if (listener_ == nullptr) ours.token = options_.token;
  return ours;
}

Status VerbsEndpoint::admit(const Greeting& theirs) const {
  const bool next = theirs.path == paths_added_ && paths_up_ == paths_added_;
  const bool same = theirs.path == 0 ||
                    (theirs.incarnation == theirs_.incarnation && theirs.rail == theirs_.rail);
  if (!next || !same)
    return Status(Code::kProtocol, "this is not the next queue pair of the connection");
  return {};
}

void VerbsEndpoint::adopt(const Adoption& adoption) {
  Status status = state_ == State::kWaiting
                      ? admit(adoption.greeting)
                      : Status(Code::kConnectionLost, "the endpoint no longer waits");
  Path* path = nullptr;
  if (status.ok()) {
    IpAddress from;
    const sockaddr* address = &adoption.id->route.addr.dst_addr;
    std::memcpy(&from.storage, address,
                address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
    peer_ = from.to_string();
    if (adoption.greeting.path == 0) {
      theirs_ = adoption.greeting;
      settle_on(queue_.on_rail(theirs_.rail));
    }
    Result<Path*> added = add_path();
    status = added.status();
    if (added.ok()) path = *added;
  }
  if (status.ok()) {
    status = path->answer(adoption.id, greeting(*path), adoption.greeting);
  } else {
    refuse(queue_.api(), adoption.id, status);
  }
  if (!status.ok()) end(std::move(status));
}

void VerbsEndpoint::on_answer(Path& path, const Greeting& theirs) {
  if (path.index() == 0) {
    theirs_ = theirs;
  } else if (theirs.incarnation != theirs_.incarnation) {
    end(Status(Code::kProtocol, "another process answered for a queue pair of the connection"));
  }
}

void VerbsEndpoint::on_path_up(Path& path) {
  if (!settling()) return;
  ++paths_up_;
  if (paths_up_ == paths_needed()) return open();
  if (listener_ != nullptr) return;  // the peer dials the next
  Result<Path*> next = add_path();
  Status status = next.status();
  if (next.ok()) status = (*next)->dial(queue_.cm(), peer_address_, greeting(**next));
  if (!status.ok()) end(std::move(status));
  (void)path;
}

void VerbsEndpoint::open() {
  if (listener_ != nullptr) listener_->forget(queue_, serial_);
  state_ = State::kOpen;
  rail_->rail().health().succeed();
  announce_ = true;
  wake();
}

void VerbsEndpoint::check_deadline(TimeNs now_ns) {
  if (now_ns < deadline_ns()) return;
  if (state_ == State::kConnecting) on_rail_failed();
  end(Status(Code::kTimeout, state_ == State::kWaiting
                                 ? "accept: no peer named the token before the deadline"
                                 : "connect: no answer before the deadline"));
}

Status VerbsEndpoint::status() const {
  if (connected()) return {};
  if (settling()) return Status(Code::kConnectionLost, "not connected yet").with_peer(peer_);
  return status_;
}

void VerbsEndpoint::close() { end(Status(Code::kCancelled, "closed by its owner")); }

void VerbsEndpoint::end(Status status) {
  if (state_ >= State::kEnding) return;
  if (listener_ != nullptr) listener_->forget(queue_, serial_);
  status_ = std::move(status).with_peer(peer_);
  state_ = State::kEnding;
  for (const std::unique_ptr<Path>& path : paths_)
    if (path != nullptr) path->shut();
  wake();
}

void VerbsEndpoint::on_rail_failed() { rail_->rail().health().fail(queue_.now_ns()); }

void VerbsEndpoint::wake() { queue_.mark_ready(*this); }

bool VerbsEndpoint::drained() const {
  return std::all_of(paths_.begin(), paths_.end(),
                     [](const auto& path) { return path == nullptr || path->drained(); });
}

}  // namespace penstock::verbs
