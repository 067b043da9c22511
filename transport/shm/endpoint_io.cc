// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "transport/parts/post.h"
#include "transport/shm/endpoint.h"
#include "transport/shm/queue.h"

// The traffic of an endpoint, in the order of a step: what the peer says, arrivals, posts.

namespace penstock::shm {
namespace {

// What one endpoint may copy per poll before the others have their turn, and how much at once: less
// than the second-level cache of a processor, up to which memcpy keeps to its fastest loop. It also
// bounds how long a region's owner waits to take it back.
constexpr std::size_t kCopyBudget = std::size_t{2} << 20;
constexpr std::size_t kCopyBytes = std::size_t{256} << 10;
// The peer sees entries as soon as this much was copied, so that both work at once. One that sleeps
// is woken at the end of the step only: in a virtual machine that costs as much as copying 100 KB.
constexpr std::size_t kPublishBytes = std::size_t{16} << 10;

}  // namespace

void ShmEndpoint::step(EventSink& sink, std::uint64_t pass) {
  if (state_ == State::kConnecting) say_hello();
  if (state_ == State::kGreeting) take_mail();
  if (state_ == State::kOpen) {
    if (pass != last_pass_) receiver_.release_messages();
    last_pass_ = pass;
    if (announce_ && sink.room()) {
      announce_ = false;
      sink.emit({.event = Event::kConnected, .endpoint = options_.id, .message = {}});
    }
    if (announce_) return;
    if (!take_acknowledgements()) refuse(Code::kProtocol, "the peer consumed what was never sent");
    retire(sink);
    take_mail();
  }
  if (state_ == State::kOpen) {
    const std::uint64_t copied = receiver_.copied_bytes(), fetched = receiver_.fetched_bytes();
    const Receiver::Fault fault = receiver_.receive(*peer_, own_, sink);
    if (receiver_.copied_bytes() != copied)
      count(counts_.bytes_copied_twice, receiver_.copied_bytes() - copied);
    if (receiver_.fetched_bytes() != fetched)
      count(counts_.bytes_by_kernel, receiver_.fetched_bytes() - fetched);
    if (fault.code != Code::kOk) refuse(fault.code, fault.what);
  }
  if (state_ == State::kOpen && !leaving_) run_posts();
  if (state_ == State::kOpen) {
    publish();
    ring();
    retire(sink);
    if (leaving_ && receiver_.finished()) end(Status(status_));
  }
  if (state_ == State::kEnding) report_end(sink);
}

bool ShmEndpoint::wants_step() const {
  switch (state_) {
    case State::kGreeting:
      return look_;
    case State::kWaiting:
    case State::kEnded:
      return false;
    case State::kConnecting:
    case State::kEnding:
      return true;
    case State::kOpen:
      break;
  }
  const Words& words = peer_->segment.words();
  return announce_ || look_ || leaving_ || sender_.oldest_done() || receiver_.behind(*peer_) ||
         words.consumed.load(std::memory_order_seq_cst) != sender_.acked() ||
         words.mail.load(std::memory_order_seq_cst) != mail_seen_ || (sender_.waiting() && !stuck_);
}

void ShmEndpoint::set_asleep(std::uint64_t sleep) {
  if (sleep == 0) return own_.words().asleep.store(0, std::memory_order_relaxed);
  const std::uint64_t acks = sender_.oldest() != nullptr ? kAwaitsAcks : 0;
  own_.words().asleep.store(sleep * kSleepUnit | acks, std::memory_order_seq_cst);
}

bool ShmEndpoint::take_acknowledgements() {
  // Pairs with the peer's publish(): its answers are complete.
  const std::uint64_t consumed = peer_->segment.words().consumed.load(std::memory_order_acquire);
  if (consumed == sender_.acked()) return true;
  stuck_ = false;
  return sender_.acknowledge(consumed, peer_->segment);
}

void ShmEndpoint::run_posts() {
  std::size_t budget = kCopyBudget;
  std::size_t told = budget;
  while (budget > 0 && !stuck_) {
    Sender::Post* const post = sender_.next();
    if (post == nullptr) return;
    const Run outcome = run(*post, budget);
    if (outcome == Run::kViolation) return;
    stuck_ = outcome == Run::kStuck;
    if (outcome == Run::kStarted) sender_.started();
    if (told - budget < kPublishBytes) continue;
    told = budget;
    publish();
  }
}

ShmEndpoint::Run ShmEndpoint::run(Sender::Post& post, std::size_t& budget) {
  if (post.opcode == Opcode::kSend) {
    if (!sender_.push_entry(own_, post, EntryKind::kMessage, post.local.size())) return Run::kStuck;
    return Run::kStarted;
  }
  if (post.moved < post.local.size()) return run_bytes(post, budget);
  if (post.has_immediate && !sender_.push_entry(own_, post, EntryKind::kNotice, 0))
    return Run::kStuck;
  return Run::kStarted;
}

ShmEndpoint::Run ShmEndpoint::run_bytes(Sender::Post& post, std::size_t& budget) {
  if (post.incarnation != peer_->incarnation)
    return violate(Code::kStale, "post: the region is of another life of the peer");
  const Peer::Region there = peer_->look_up(post.key);
  if (there.code != Code::kOk) return violate(there.code, "post: the peer refuses the region");
  const Access access = there.rights.access;
  const bool allowed = post.opcode == Opcode::kWrite ? allows_write(access) : allows_read(access);
  if (!allowed || post.offset > there.length || post.local.size() > there.length - post.offset)
    return violate(Code::kAccess, "post: outside what the peer allows");
  if (there.rights.shared) {
    const Imports::Region* const region = imports_.find(post.key);
    if (region == nullptr) {
      Message ask;
      ask.kind = MessageKind::kAsk;
      ask.key = post.key;
      send(ask);
      return Run::kStuck;
    }
    if (!region->answered) return Run::kStuck;
    if (region->code != Code::kOk || region->length != there.length)
      return violate(region->code, "post: the peer refused the region");
    if (region->base != nullptr) return copy_in_place(post, region->base, 0, budget);
  }
  if (!peer_->memory) return push_pieces(post, budget);
  if (leaves_share(post) && sender_.push_entry(own_, post, EntryKind::kFetch, kFetchBytes)) {
    publish();
    ring();
    return Run::kMore;
  }
  return copy_in_place(post, nullptr, there.base, budget);
}

// Of what the kernel copies, the peer does a part: both of us are at work then.
bool ShmEndpoint::leaves_share(const Sender::Post& post) {
  if (post.opcode != Opcode::kWrite || post.local.size() - post.moved < 2 * kFetchBytes)
    return false;
  if (peer_->segment.words().fetches.load(std::memory_order_relaxed) == 0) return false;
  if (!sender_.may_fetch() && !take_acknowledgements()) return false;  // told in the next step
  return sender_.may_fetch();
}

Code ShmEndpoint::move(const Sender::Post& post, std::byte* mapped, std::uint64_t base,
                       std::size_t length) {
  const std::span<std::byte> here = post.local.subspan(post.moved, length);
  const std::uint64_t offset = post.offset + post.moved;
  const bool write = post.opcode == Opcode::kWrite;
  if (mapped == nullptr)
    return write ? peer_->memory.write(here, base + offset)
                 : peer_->memory.read(base + offset, here);
  std::byte* const there = mapped + offset;
  std::memcpy(write ? there : here.data(), write ? here.data() : there, length);
  return Code::kOk;
}

ShmEndpoint::Run ShmEndpoint::copy_in_place(Sender::Post& post, std::byte* mapped,
                                            std::uint64_t base, std::size_t& budget) {
  const std::size_t length = std::min(post.local.size() - post.moved, kCopyBytes);
  // Its number may be another process's by now.
  if (mapped == nullptr && peer_->gone()) {
    look_ = true;
    return Run::kStuck;
  }
  SharedWord& inside = own_.words().inside;
  // First we say where we are, then we look whether it is alive: its owner does it the other way
  // round. Both sequentially consistent.
  inside.store(slot_of(post.key) + std::uint64_t{1}, std::memory_order_seq_cst);
  const bool alive = peer_->alive(post.key);
  const Code code = alive ? move(post, mapped, base, length) : Code::kStale;
  inside.store(0, std::memory_order_release);  // pairs with the owner's wait
  if (!alive) return violate(Code::kStale, "post: the peer took the region back");
  if (code == Code::kUnsupported) {
    peer_->memory = ProcessMemory();  // the system changed its mind: pieces from now on
    return Run::kMore;
  }
  if (code == Code::kConnectionLost) {
    look_ = true;
    return Run::kStuck;
  }
  if (code != Code::kOk) return violate(code, "post: the peer's memory is not where it says");
  count(mapped != nullptr ? counts_.bytes_in_place : counts_.bytes_by_kernel, length);
  budget -= std::min(budget, length);
  post.moved += length;
  if (post.moved < post.local.size()) return Run::kMore;
  return post.has_immediate ? Run::kMore : Run::kStarted;
}

ShmEndpoint::Run ShmEndpoint::push_pieces(Sender::Post& post, std::size_t& budget) {
  const EntryKind kind = post.opcode == Opcode::kWrite ? EntryKind::kPiece : EntryKind::kRead;
  const std::size_t length = std::min(post.local.size() - post.moved, kPieceBytes);
  if (!sender_.push_entry(own_, post, kind, length)) return Run::kStuck;
  budget -= std::min(budget, length);
  // The last piece carries the immediate.
  return post.moved < post.local.size() ? Run::kMore : Run::kStarted;
}

// What was posted before is completed first.
ShmEndpoint::Run ShmEndpoint::violate(Code code, const char* what) {
  if (!sender_.settled()) return Run::kStuck;
  refuse(code, what);
  return Run::kViolation;
}

// The peer sees our entries, and what we consumed of its. Whoever publishes rings soon.
void ShmEndpoint::publish() {
  Words& words = own_.words();
  news_ |= published_ != sender_.pushed();
  acks_ |= answered_ != receiver_.consumed();
  if (published_ != sender_.pushed())
    words.published.store(published_ = sender_.pushed(), std::memory_order_seq_cst);
  if (answered_ != receiver_.consumed())
    words.consumed.store(answered_ = receiver_.consumed(), std::memory_order_seq_cst);
}

// Wakes the peer if it sleeps and what we said since the last time concerns it, once for each
// sleep.
void ShmEndpoint::ring() {
  if (!news_ && !acks_) return;
  const std::uint64_t sleep = peer_->segment.words().asleep.load(std::memory_order_seq_cst);
  const bool concerned = news_ || (sleep & kAwaitsAcks) != 0;
  news_ = acks_ = false;
  if (sleep == 0 || sleep == rung_ || !concerned) return;
  rung_ = sleep;
  count(counts_.doorbells, 1);
  peer_->ring();
}

void ShmEndpoint::retire(EventSink& sink) {
  while (sink.room() && sender_.oldest_done()) {
    complete(*sender_.oldest(), Code::kOk, sink);
    sender_.retire_oldest();
  }
}

void ShmEndpoint::report_end(EventSink& sink) {
  while (sink.room()) {
    const Sender::Post* const post = sender_.oldest();
    if (post == nullptr) {
      state_ = State::kEnded;
      return sink.emit({.event = Event::kDisconnected,
                        .code = status_.code(),
                        .endpoint = options_.id,
                        .message = {}});
    }
    complete(*post, sender_.oldest_done() ? Code::kOk : status_.code(), sink);
    sender_.retire_oldest();
  }
}

void ShmEndpoint::complete(const Sender::Post& post, Code code, EventSink& sink) {
  sink.emit({.event = parts::done_event(post.opcode),
             .code = code,
             .endpoint = options_.id,
             .length = code == Code::kOk ? post.local.size() : 0,
             .tag = post.tag,
             .message = {}});
}

}  // namespace penstock::shm
