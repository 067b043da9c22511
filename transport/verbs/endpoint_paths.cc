// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The paths of an endpoint: how they are added, come up and are lost. The connector dials those of
// the home rail in turn, and once these are up all others; a rail it cannot have it tries again
// later, less and less often, and when its port comes back.
#include <fmt/format.h>

#include <algorithm>

#include "transport/base/log.h"
#include "transport/verbs/endpoint.h"
#include "transport/verbs/listener.h"
#include "transport/verbs/queue.h"
#include "transport/verbs/region.h"

namespace penstock::verbs {
namespace {

// How long a path may take to come up, and the pause after which a missing one is dialled again.
constexpr TimeNs kFirstProbeNs = 2 * kSecond;
constexpr TimeNs kLongestProbeNs = 30 * kSecond;

}  // namespace

Result<Path*> VerbsEndpoint::add_path(std::size_t rail, std::size_t domain) {
  const auto index = static_cast<std::uint8_t>(rail * kDomains + domain);
  const bool first = messages_.bytes.empty() && rail == home() && domain == 0;
  PENSTOCK_ASSIGN_OR_RETURN(paths_[index], Path::create(*this, queue_.on_rail(rail),
                                                        domain == 0 ? options_.scope : kAnyScope,
                                                        index, queue_.window()));
  if (first) PENSTOCK_RETURN_IF_ERROR(make_ring());
  return paths_[index].get();
}

Status VerbsEndpoint::make_ring() {
  if (context_.message_bytes == 0) return {};
  messages_.bytes.resize(std::size_t{queue_.window()} * context_.message_bytes);
  PENSTOCK_ASSIGN_OR_RETURN(messages_.mr,
                            register_bytes(path(home(), 0)->domain(), messages_.bytes,
                                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
  return {};
}

Greeting VerbsEndpoint::greeting(const Path& path) const {
  Greeting ours;
  ours.rail = static_cast<std::uint8_t>(path.rail().index());
  ours.domain = static_cast<std::uint8_t>(path.index() % kDomains);
  ours.first = ours.rail == home() && ours.domain == 0;
  ours.scoped = options_.scope != kAnyScope;
  ours.incarnation = context_.incarnation;
  ours.window = static_cast<std::uint16_t>(path.window());
  ours.message_bytes = context_.message_bytes;
  if (ours.first && messages_.mr != nullptr) {
    ours.ring_address = reinterpret_cast<std::uint64_t>(messages_.bytes.data());
    ours.ring_key = messages_.mr->rkey;
  }
  if (connector()) ours.token = options_.token;
  return ours;
}

// ---- the connector's side -----------------------------------------------------------------------

Status VerbsEndpoint::dial(std::size_t rail, std::size_t domain) {
  PENSTOCK_ASSIGN_OR_RETURN(Path * path, add_path(rail, domain));
  return path->dial(queue_.cm(), peer_rails_[rail], greeting(*path));
}

// Of an open connection: dials the other rails it lacks; gives up what has been coming up since the
// last time.
void VerbsEndpoint::dial_missing() {
  const TimeNs now_ns = queue_.now_ns();
  const std::size_t shared = std::min(peer_rails_.size(), queue_.rail_count());
  bool missing = false;
  for (std::size_t rail = 0; rail < shared; ++rail) {
    for (std::size_t domain = 0; domain < domains() && rail != home(); ++domain) {
      if (path_up(rail, domain) != nullptr) continue;
      missing = true;
      if (Path* late = path(rail, domain).get())
        leave_out(*late, Status(Code::kTimeout, "no answer in time"));
      if (queue_.on_rail(rail).rail().health().paused(now_ns)) continue;
      const Status status = dial(rail, domain);
      if (Path* failed = path(rail, domain).get(); failed != nullptr && !status.ok())
        leave_out(*failed, status);
    }
  }
  probe_delay_ns_ = std::clamp(2 * probe_delay_ns_, kFirstProbeNs, kLongestProbeNs);
  probe_ns_ = missing ? now_ns + probe_delay_ns_ : kNever;
  queue_.expect(probe_ns_);
}

void VerbsEndpoint::on_rail_back() {
  if (!connected() || probe_ns_ == kNever) return;
  probe_delay_ns_ = 0;
  dial_missing();
}

void VerbsEndpoint::on_answer(Path& path, const Greeting& theirs) {
  if (path.index() == home() * kDomains) {
    theirs_ = theirs;
  } else if (theirs.incarnation != theirs_.incarnation) {
    end(Status(Code::kProtocol, "another process answered for a queue pair of the connection"));
  }
}

// ---- the acceptor's side ------------------------------------------------------------------------

Status VerbsEndpoint::admit(const Greeting& theirs) const {
  if (state_ > State::kOpen || (theirs.first && state_ != State::kWaiting))
    return Status(Code::kConnectionLost, "the endpoint no longer waits");
  const bool known = home_ != nullptr;
  const bool fits =
      theirs.rail < queue_.rail_count() && theirs.first != known &&
      (theirs.first ? theirs.domain == 0
                    : theirs.domain < domains() && theirs.incarnation == theirs_.incarnation);
  if (!fits || paths_[theirs.rail * kDomains + theirs.domain] != nullptr)
    return Status(Code::kProtocol, "this is no further queue pair of the connection");
  return {};
}

void VerbsEndpoint::adopt(const Adoption& adoption) {
  const Greeting& theirs = adoption.greeting;
  Status status = admit(theirs);
  Path* path = nullptr;
  if (status.ok()) {
    if (theirs.first) {
      theirs_ = theirs;
      settle_on(queue_.on_rail(theirs.rail));
    }
    Result<Path*> added = add_path(theirs.rail, theirs.domain);
    status = added.status();
    if (added.ok()) path = *added;
  }
  if (path == nullptr)
    refuse(queue_.api(), adoption.id, status);
  else
    status = path->answer(adoption.id, greeting(*path), theirs);
  if (theirs.first && path != nullptr) peer_ = path->peer();
  if (status.ok()) return;
  if (settling() && (home_ == nullptr || theirs.rail == home())) return end(std::move(status));
  if (path != nullptr) leave_out(*path, status);
}

// ---- both ---------------------------------------------------------------------------------------

void VerbsEndpoint::on_path_up(Path& path) {
  if (state_ > State::kOpen) return;
  path.rail().health().succeed();
  if (!settling()) return wake();
  if (path_up(home(), 0) != nullptr && path_up(home(), domains() - 1) != nullptr) return open();
  if (!connector() || path.index() != home() * kDomains) return;
  if (Status status = dial(home(), 1); !status.ok()) end(std::move(status));
}

void VerbsEndpoint::on_path_lost(Path& path, const Status& reason) {
  if (state_ > State::kOpen) return;
  if (path.up() || path.rail().index() == home()) return end(reason);
  leave_out(path, reason);
}

// The connection goes on without a path that never carried anything.
void VerbsEndpoint::leave_out(Path& path, const Status& reason) {
  PENSTOCK_LOG_DEBUG("no path by {} to {} yet: {}", path.rail().name(), path.peer(),
                     reason.to_string());
  path.shut();
  path.orphan();
  queue_.keep(std::move(paths_[path.index()]));
}

void VerbsEndpoint::on_rail_failed(const Path& path) {
  // Where a rail only fails to come up the peer's may be at fault: it is not paused for others.
  if (path.up() || path.rail().index() == home()) path.rail().health().fail(queue_.now_ns());
}

void VerbsEndpoint::on_rail_lost(const RailQueue& rail, const Status& reason) {
  for (const std::unique_ptr<Path>& path : paths_) {
    if (path == nullptr || &path->queue() != &rail || state_ > State::kOpen) continue;
    on_rail_failed(*path);
    on_path_lost(*path, reason);
  }
}

}  // namespace penstock::verbs
