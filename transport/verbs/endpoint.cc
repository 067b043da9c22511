// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/endpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/base/check.h"
#include "transport/verbs/listener.h"
#include "transport/verbs/queue.h"

// Its life: opening and ending. Its paths are endpoint_paths.cc, posts and what comes out
// endpoint_io.cc.

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
  if (home_ != nullptr) home_->rail().health().drop_connection();
  queue_.detach(*this);
}

Status VerbsEndpoint::start(const std::vector<IpAddress>& peer) {
  peer_rails_ = peer;
  settle_on(queue_.choose_rail(peer.size()));
  peer_ = peer_rails_[home()].to_string();
  return dial(home(), 0);
}

void VerbsEndpoint::settle_on(RailQueue& rail) {
  home_ = &rail;
  rail.rail().health().add_connection();
}

void VerbsEndpoint::open() {
  state_ = State::kOpen;
  announce_ = true;
  wake();
  if (connector()) dial_missing();
}

void VerbsEndpoint::check_deadline(TimeNs now_ns) {
  if (now_ns < deadline_ns()) return;
  if (!settling()) return dial_missing();
  if (state_ == State::kConnecting) home_->rail().health().fail(now_ns);
  end(Status(Code::kTimeout, state_ == State::kWaiting
                                 ? "accept: no peer named the token before the deadline"
                                 : "connect: no answer before the deadline"));
}

Status VerbsEndpoint::status() const {
  if (connected()) return {};
  if (settling()) return Status(Code::kConnectionLost, "not connected yet").with_peer(peer_);
  return status_;
}

void VerbsEndpoint::close() {
  end(Status(Code::kCancelled, "closed by its owner").with_peer(peer_));
}

void VerbsEndpoint::end(Status status) {
  if (state_ >= State::kEnding) return;
  if (listener_ != nullptr) listener_->forget(queue_, serial_);
  status_ = status.peer().empty() ? std::move(status).with_peer(peer_) : std::move(status);
  state_ = State::kEnding;
  probe_ns_ = kNever;
  for (const std::unique_ptr<Path>& path : paths_)
    if (path != nullptr) path->shut();
  wake();
}

void VerbsEndpoint::wake() { queue_.mark_ready(*this); }

bool VerbsEndpoint::drained() const {
  return std::all_of(paths_.begin(), paths_.end(),
                     [](const auto& path) { return path == nullptr || path->drained(); });
}

}  // namespace penstock::verbs
