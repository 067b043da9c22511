// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
// The traffic of an endpoint: posts on their way to the device, and what its owner is told.
#include <endian.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "transport/parts/post.h"
#include "transport/verbs/endpoint.h"
#include "transport/verbs/queue.h"
#include "transport/verbs/region.h"

namespace penstock::verbs {

Status VerbsEndpoint::post(std::span<const WorkRequest> work) {
  if (!connected()) return status();
  if (work.size() > send_free())
    return Status(Code::kExhausted, "post: the send queue is full").with_peer(peer_);
  const std::uint8_t before = last_domain_;
  std::uint64_t at = accepted_;
  for (const WorkRequest& request : work) {
    Status status = check(request);
    if (status.ok()) status = prepare(request, posts_[at++ % posts_.size()]);
    if (status.ok()) continue;
    last_domain_ = before;
    return status;
  }
  accepted_ = at;
  push();
  return {};
}

Status VerbsEndpoint::check(const WorkRequest& request) const {
  const auto bad = [this](const char* what) {
    return Status(Code::kInvalidArgument, what).with_peer(peer_);
  };
  if (request.has_immediate && request.opcode != Opcode::kWrite)
    return bad("post: only a write carries an immediate");
  if (request.opcode == Opcode::kSend &&
      request.length > std::min(theirs_.message_bytes, context_.message_bytes))
    return bad("post: the message is longer than this endpoint's or the peer's device takes");
  if (request.length == 0) return {};
  if (request.local == nullptr) return bad("post: no local bytes");
  const std::size_t here = request.local->bytes().size();
  if (request.local_offset > here || request.length > here - request.local_offset)
    return bad("post: local bytes outside their region");
  if (request.local->part(ProviderKind::kVerbs) == nullptr)
    return bad("post: the local region is not one of verbs'");
  if (request.opcode == Opcode::kSend) return {};
  if (request.remote == nullptr) return bad("post: no remote region");
  if (!request.remote->reachable_by(ProviderKind::kVerbs) ||
      request.remote->version != RemoteRegion::kVersion)
    return bad("post: the remote region is not one of verbs'");
  return {};
}

Status VerbsEndpoint::prepare(const WorkRequest& request, Post& post) {
  post = {};
  post.opcode = request.opcode;
  post.has_immediate = request.has_immediate;
  post.immediate = request.immediate;
  post.tag = request.tag;
  post.length = request.length;
  // Without bytes there is nothing to spread.
  post.unordered = request.unordered && request.opcode == Opcode::kWrite && request.length > 0;
  post.rails = static_cast<std::uint8_t>(1U << home());
  post.domain = last_domain_;  // whatever needs no region of the peer's
  if (request.opcode == Opcode::kSend) post.domain = 0;
  if (request.opcode != Opcode::kSend && request.length > 0) {
    const RemoteRegion& remote = *request.remote;
    const bool scoped = (remote.key[key_slot(ProviderKind::kVerbs, home())] & kScopedKey) != 0;
    post.domain = !scoped && domains() == kDomains ? 1 : 0;
    if (post.unordered)
      for (std::size_t rail = 0; rail < std::min<std::size_t>(remote.rails, kMaxRails); ++rail)
        if (path_up(rail, post.domain) != nullptr)
          post.rails = static_cast<std::uint8_t>(post.rails | 1U << rail);
    post.remote = remote.base + request.remote_offset;
    // What can be known here is; the peer's device checks all the rest.
    if (remote.incarnation != theirs_.incarnation)
      post.poison = Code::kStale;
    else if (request.remote_offset > remote.length ||
             request.length > remote.length - request.remote_offset)
      post.poison = Code::kAccess;
  }
  if (!post.unordered) last_domain_ = post.domain;
  return request.length == 0 ? Status() : find_keys(request, post);
}

// Those of every rail the post may go over; which one it will be is decided when it is issued.
Status VerbsEndpoint::find_keys(const WorkRequest& request, Post& post) const {
  const auto& region = static_cast<const VerbsRegion&>(*request.local->part(ProviderKind::kVerbs));
  post.local =
      reinterpret_cast<std::uint64_t>(request.local->bytes().data()) + request.local_offset;
  post.gpu = region.kind() == MemoryKind::kCuda;
  for (std::size_t rail = 0; rail < kMaxRails; ++rail) {
    if ((post.rails >> rail & 1U) == 0) continue;
    Domain& domain = paths_[rail * kDomains + post.domain]->domain();
    PENSTOCK_ASSIGN_OR_RETURN(post.keys[rail].local, region.local_key(domain));
    if (request.opcode != Opcode::kSend)
      post.keys[rail].remote =
          static_cast<std::uint32_t>(request.remote->key[key_slot(ProviderKind::kVerbs, rail)]);
  }
  return {};
}

void VerbsEndpoint::push() {
  while (issued_ < accepted_ && connected()) {
    Post& post = posts_[issued_ % posts_.size()];
    if (post.poison != Code::kOk) {
      if (issued_ != done_) break;
      return end(Status(post.poison, post.poison == Code::kStale
                                         ? "the region is of an earlier life of the peer"
                                         : "outside the peer's region"));
    }
    Path* path = choose_path(post);
    if (path == nullptr) break;
    if (!(post.opcode == Opcode::kSend ? issue_message(*path, post) : issue(*path, post))) break;
    ++issued_;
  }
  for (const std::unique_ptr<Path>& path : paths_) {
    if (path == nullptr || !connected()) continue;
    if (Status status = path->ring(); !status.ok()) end(std::move(status));
  }
}

// Where the post goes now; nullptr if it has to wait.
Path* VerbsEndpoint::choose_path(const Post& post) {
  const bool begun = post.issued > 0;
  if (!begun && !post.unordered) {
    if (post.domain != issue_domain_ && issued_ != done_) return nullptr;
    issue_domain_ = post.domain;
  }
  if (!begun && !std::has_single_bit(post.rails)) return choose_rail(post);
  const auto rail = static_cast<std::size_t>(std::countr_zero(post.rails));
  return paths_[rail * kDomains + post.domain].get();
}

// As late as possible, while little is under way: the later, the more is known.
Path* VerbsEndpoint::choose_rail(const Post& post) const {
  std::array<RailLoad, kMaxRails> loads;
  std::array<Path*, kMaxRails> paths{};
  std::size_t count = 0;
  Path* full = nullptr;
  for (std::size_t i = 0; i < kMaxRails; ++i) {
    const std::size_t rail = (home() + i) % kMaxRails;  // of equals, the home rail
    if ((post.rails >> rail & 1U) == 0) continue;
    Path* path = paths_[rail * kDomains + post.domain].get();
    if (path->room(1) && (!post.has_immediate || path->has_credit())) {
      loads[count] = {path->queue().outstanding_bytes(), path->rail().limits().speed};
      paths[count++] = path;
    } else {
      full = path;
    }
  }
  if (count == 0) return full;  // make_room() notes what it waits for
  Path* best = paths[earliest_finish(std::span(loads).first(count), post.length)];
  const std::uint64_t under_way = best->outstanding_bytes();
  return under_way == 0 || under_way + post.length <= kSpreadBytes ? best : nullptr;
}

// True when the device takes `slots` more work requests now, and the peer an arrival if need be.
bool VerbsEndpoint::make_room(Path& path, std::uint32_t slots, bool credit) {
  if (!path.room(slots)) return false;
  if (credit && !path.has_credit()) {
    if (!credit_wait_) add(path.rail().counts().credit_waits);
    credit_wait_ = true;
    return false;
  }
  credit_wait_ = false;
  if (!path.chain_full(slots)) return true;
  Status status = path.ring();
  if (!status.ok()) end(std::move(status));
  return connected();
}

bool VerbsEndpoint::issue(Path& path, Post& post) {
  const std::uint64_t most = path.rail().limits().message_bytes;
  const std::size_t rail = path.rail().index();
  const bool read = post.opcode == Opcode::kRead;
  do {
    const std::uint64_t piece = std::min(post.length - post.issued, most);
    const bool last = post.issued + piece == post.length;
    const bool immediate = last && post.has_immediate;
    if (!make_room(path, 1, immediate)) return false;
    post.rails = static_cast<std::uint8_t>(1U << rail);  // the rest of it follows
    const auto bytes = static_cast<std::uint32_t>(piece);
    ibv_send_wr& work = path.next(issued_, last, read ? 0 : bytes);
    work.opcode = read        ? IBV_WR_RDMA_READ
                  : immediate ? IBV_WR_RDMA_WRITE_WITH_IMM
                              : IBV_WR_RDMA_WRITE;
    if (immediate) {
      work.imm_data = htobe32(post.immediate);
      path.use_credit();
    }
    if (piece > 0) {
      *work.sg_list = {post.local + post.issued, bytes, post.keys[rail].local};
      work.num_sge = 1;
      work.wr.rdma.remote_addr = post.remote + post.issued;
      work.wr.rdma.rkey = post.keys[rail].remote;
      if (!read && !post.gpu && piece <= path.inline_bytes()) work.send_flags |= IBV_SEND_INLINE;
    }
    post.issued += piece;
    add(read ? path.rail().counts().bytes_read : path.rail().counts().bytes_sent, piece);
  } while (post.issued < post.length);
  return true;
}

// A write into the next slot of the peer's ring, then a message without bytes that says how many.
bool VerbsEndpoint::issue_message(Path& path, const Post& post) {
  if (!make_room(path, 2, true)) return false;
  const std::uint32_t slot = path.next_message_slot();
  const auto length = static_cast<std::uint32_t>(post.length);
  if (length > 0) {
    ibv_send_wr& bytes = path.next(issued_, false, length);
    bytes.opcode = IBV_WR_RDMA_WRITE;
    *bytes.sg_list = {post.local, length, post.keys[home()].local};
    bytes.num_sge = 1;
    bytes.wr.rdma.remote_addr = theirs_.ring_address + std::uint64_t{slot} * theirs_.message_bytes;
    bytes.wr.rdma.rkey = theirs_.ring_key;
    if (!post.gpu && length <= path.inline_bytes()) bytes.send_flags |= IBV_SEND_INLINE;
  }
  ibv_send_wr& notice = path.next(issued_, true, 0);
  notice.opcode = IBV_WR_SEND_WITH_IMM;
  notice.imm_data = htobe32(length);
  path.use_credit();
  add(path.rail().counts().bytes_sent, length);
  return true;
}

void VerbsEndpoint::on_post_done(std::uint64_t post) {
  posts_[post % posts_.size()].done = true;
  while (done_ != issued_ && posts_[done_ % posts_.size()].done) ++done_;
}

void VerbsEndpoint::on_arrival(const Arrival& arrival) {
  arrivals_[arrived_++ % arrivals_.size()] = arrival;
  wake();
}

bool VerbsEndpoint::step(EventSink& sink, std::uint64_t pass) {
  if (held_ > 0 && held_pass_ != pass) {
    path(home(), 0)->consume(held_);
    held_ = 0;
  }
  if (announce_ && sink.room()) {
    announce_ = false;
    emit(sink, Event::kConnected);
  }
  held_pass_ = pass;
  emit_arrivals(sink);
  retire(sink);
  if (connected()) {
    push();
    for (const std::unique_ptr<Path>& path : paths_) {
      if (path == nullptr || !connected()) continue;
      if (Status status = path->return_credits(); !status.ok()) end(std::move(status));
    }
  }
  if (state_ == State::kEnding && drained() && !announce_ && handed_out_ == arrived_ &&
      retired_ == accepted_ && sink.room()) {
    state_ = State::kEnded;
    emit(sink, Event::kDisconnected);
  }
  return announce_ || (handed_out_ != arrived_ && !settling()) || retired_ != done_ || held_ > 0 ||
         (state_ == State::kEnding && drained());
}

void VerbsEndpoint::emit_arrivals(EventSink& sink) {
  if (announce_ || settling()) return;
  for (; handed_out_ != arrived_ && sink.room() && state_ != State::kEnded; ++handed_out_) {
    const Arrival& arrival = arrivals_[handed_out_ % arrivals_.size()];
    Completion completion;
    completion.endpoint = options_.id;
    completion.length = arrival.length;
    completion.event = arrival.message ? Event::kMessage : Event::kImmediate;
    if (arrival.message && arrival.length > 0) {
      completion.message =
          std::span<const std::byte>(messages_.bytes)
              .subspan(std::size_t{arrival.immediate} * context_.message_bytes, arrival.length);
    } else if (!arrival.message) {
      completion.immediate = arrival.immediate;
    }
    sink.emit(completion);
    // A message's slot is the owner's until the next poll; what came behind it waits with it,
    // because the peer counts.
    if (arrival.path == home() * kDomains && (arrival.message || held_ > 0))
      ++held_;
    else
      paths_[arrival.path]->consume(1);
  }
}

void VerbsEndpoint::retire(EventSink& sink) {
  while (retired_ != done_ && !announce_ && sink.room()) complete(sink, Code::kOk);
  // The lent bytes come back only when no device touches them any more.
  if (state_ != State::kEnding || !drained()) return;
  while (retired_ != accepted_ && sink.room()) complete(sink, status_.code());
}

void VerbsEndpoint::complete(EventSink& sink, Code code) {
  const Post& post = posts_[retired_++ % posts_.size()];
  if (code != Code::kOk) done_ = retired_;
  Completion completion;
  completion.event = parts::done_event(post.opcode);
  completion.code = code;
  completion.endpoint = options_.id;
  completion.tag = post.tag;
  completion.length = code == Code::kOk ? post.length : 0;
  sink.emit(completion);
}

void VerbsEndpoint::emit(EventSink& sink, Event event) {
  Completion completion;
  completion.event = event;
  completion.endpoint = options_.id;
  if (event == Event::kDisconnected) completion.code = status_.code();
  sink.emit(completion);
}

}  // namespace penstock::verbs
