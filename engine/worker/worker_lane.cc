// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/worker/worker_lane.h"

#include <algorithm>
#include <array>

#include "engine/protocol/immediate.h"
#include "engine/protocol/limits.h"
#include "transport/base/log.h"

namespace penstock {
namespace {

constexpr std::uint32_t kQueueDepth = 4096;

// A tag names the slice and its bytes, so that the window can be counted after the key is gone.
constexpr std::uint64_t make_tag(std::uint32_t slice, std::uint64_t bytes) {
  return bytes << 24 | slice;
}

}  // namespace

Result<std::unique_ptr<WorkerLane>> WorkerLane::create(std::uint32_t index, std::uint32_t servers,
                                                       Device& device, Waker& control,
                                                       RegionCache& regions,
                                                       MessageReceiver* receiver) {
  PENSTOCK_ASSIGN_OR_RETURN(auto queue, device.create_completion_queue(kQueueDepth));
  return std::unique_ptr<WorkerLane>(
      new WorkerLane(index, servers, device, control, std::move(queue), regions, receiver));
}

WorkerLane::WorkerLane(std::uint32_t index, std::uint32_t servers, Device& device, Waker& control,
                       std::unique_ptr<CompletionQueue> queue, RegionCache& regions,
                       MessageReceiver* receiver)
    : index_(index),
      device_(device),
      control_(control),
      queue_(std::move(queue)),
      links_(servers),
      commands_(kLaneCommands),
      notices_(kLaneCommands) {
  for (Rank server = 0; receiver != nullptr && server < servers; ++server)
    links_[server].messages =
        std::make_unique<MessageStream>(device, regions, kAnyScope, server, *receiver);
}

std::size_t WorkerLane::run_once() {
  std::size_t done = 0;
  for (WorkerLaneCommand command; commands_.pop(command); ++done)
    std::visit([this](auto& body) { handle(body); }, command);
  if (!inbox_.empty()) done += take_messages();

  std::array<Completion, kPollBatch> completions;
  const std::size_t polled = queue_->poll(completions);
  for (std::size_t i = 0; i < polled; ++i) on_completion(completions[i]);
  for (Link& link : links_) {
    if (!link.up) continue;
    if (!link.views.empty()) map_views(link);
    if (link.views.empty()) done += send_ready(link);
    if (link.messages != nullptr) done += link.messages->pump();
  }
  if (!drops_.empty()) done += finish_drops();
  return done + polled;
}

bool WorkerLane::arm() { return commands_.empty() && inbox_.empty() && queue_->arm(); }

bool WorkerLane::command(WorkerLaneCommand&& command) {
  if (!commands_.push(std::move(command))) return false;
  waker_.wake();
  return true;
}

void WorkerLane::tell(WorkerLaneNotice&& notice) {
  // One per key, per connection attempt and per removal, each answered before the next.
  CHECK(notices_.push(std::move(notice)), "lane {}: the control loop does not listen", index_);
  control_.wake();
}

// ---- the life of a slice, hops 3, 4 and 9 -------------------------------------------------------

void WorkerLane::handle(PushKey& push) {
  const auto entry = std::lower_bound(keys_.begin(), keys_.end(), push.key,
                                      [](const auto& a, InflightKey* b) { return a.first < b; });
  CHECK(entry != keys_.end() && entry->first == push.key, "lane {}: no such key", index_);
  for (const Range& range : entry->second)
    for (const std::uint32_t index : range.slices) {
      WorkerSlice& slice = links_[range.server].slices[index];
      CHECK(slice.state == State::kIdle && slice.next == push.round,
            "lane {} slice {}: round {} while {} is next", index_, index, push.round, slice.next);
      slice.nothing = push.nothing;
      slice.not_finite = push.not_finite;
      slice.encoded = false;
      make_ready(links_[range.server], index);
    }
}

void WorkerLane::make_ready(Link& link, std::uint32_t index) {
  WorkerSlice& slice = link.slices[index];
  slice.state = State::kQueued;
  link.ready.push({slice.key->declaration.spec.priority, slice.next, slice.position, index});
}

std::size_t WorkerLane::send_ready(Link& link) {
  std::size_t sent = 0;
  while (!link.ready.empty() && link.window_bytes < kWindowBytes &&
         post_slice(link, link.ready.top().slice)) {
    link.ready.pop();
    ++sent;
  }
  return sent;
}

// What is written: in round 0 the parameters, then the gradient, encoded where the key has a codec.
void WorkerLane::set_source(WorkerSlice& slice, WorkRequest& work) {
  const InflightKey& key = *slice.key;
  const TensorSpec& spec = key.declaration.spec;
  if (slice.next > 0 && key.encoder != nullptr) {
    if (!slice.encoded) key.encoder->encode(slice.elements, slice.encoded_offset);
    slice.encoded = true;
    work.local = &key.encoder->region();
    work.local_offset = slice.encoded_offset;
    work.length = encoded_bytes(spec.codec, slice.elements.count);
    return;
  }
  const RegisteredBuffer& buffer = slice.next == 0 ? key.parameters : key.gradients;
  const std::size_t element_bytes =
      dtype_bytes(slice.next == 0 ? spec.parameter_dtype : spec.gradient_dtype);
  work.local = buffer.region.get();
  work.local_offset = buffer.offset + slice.elements.begin * element_bytes;
  work.length = slice.elements.count * element_bytes;
}

bool WorkerLane::post_slice(Link& link, std::uint32_t index) {
  if (link.endpoint->send_free() == 0) return false;
  WorkerSlice& slice = link.slices[index];
  const bool initial = slice.next == 0;
  const SliceKind kind = slice.nothing                ? SliceKind::kNothing
                         : slice.not_finite           ? SliceKind::kNotFinite
                         : slice.in_place && !initial ? SliceKind::kInPlace
                                                      : SliceKind::kData;
  WorkRequest work;
  work.opcode = Opcode::kWrite;
  work.has_immediate = true;
  work.unordered = true;  // see immediate.h
  work.immediate = encode_immediate(kind, slice.next, index);
  if (kind == SliceKind::kData) {
    set_source(slice, work);
    work.remote = &slice.slots;
    work.remote_offset = slice.slot_offset + (slice.next & 1U) * slice.slot_bytes;
  }
  work.tag = make_tag(index, work.length);
  if (!link.endpoint->post(work).ok()) return false;
  slice.state = State::kSent;
  ++slice.posted;
  link.window_bytes += work.length;
  return true;
}

void WorkerLane::on_completion(const Completion& completion) {
  const Rank server = completion.endpoint;
  Link& link = links_[server];
  if (link.messages != nullptr && carries_message(completion))
    return on_open_message(server, completion);
  switch (completion.event) {
    case Event::kImmediate:
      return on_immediate(link, completion.immediate);
    case Event::kWriteDone:
      link.window_bytes -= completion.tag >> 24;
      --link.slices[completion.tag & (kMaxSlicesPerLane - 1)].posted;
      return;
    case Event::kConnected:
      link.up = true;
      start_messages(server);
      map_views(link);
      return tell(ServerConnected{server});
    case Event::kDisconnected:
      return on_disconnected(server);
    default:  // servers send no messages
      return;
  }
}

void WorkerLane::on_immediate(Link& link, std::uint32_t bits) {
  const Immediate immediate = decode_immediate(bits);
  if (immediate.slice >= link.slices.size()) return;
  WorkerSlice& slice = link.slices[immediate.slice];
  if (slice.key == nullptr) return;
  if (immediate.kind == SliceKind::kMapped) return on_mapped(link, slice.key);
  if (slice.state != State::kSent || expand_round(slice.next, immediate.round_low) != slice.next)
    return;  // an answer that a reconnection repeated
  if (immediate.kind == SliceKind::kData || immediate.kind == SliceKind::kRoundFailed)
    return on_answer(slice, immediate.kind == SliceKind::kRoundFailed);
  if (immediate.kind == SliceKind::kCopy && slice.in_place) {
    slice.in_place = false;
    make_ready(link, immediate.slice);
  }
}

// The server's word holds until the connection is lost.
void WorkerLane::on_mapped(Link& link, const InflightKey* key) {
  for (WorkerSlice& slice : link.slices)
    if (slice.key == key) slice.in_place = true;
}

void WorkerLane::on_answer(WorkerSlice& slice, bool failed) {
  InflightKey* const key = slice.key;
  if (failed) key->fail_round();
  slice.state = State::kIdle;
  const bool initial = slice.next++ == 0;
  if (key->slice_done() && initial) tell(KeyInitialised{key});
}

// ---- connections --------------------------------------------------------------------------------

// Asked for at the last moment: a list from before a key was removed would speak of another key.
// The server may not have removed it yet: a free slice wants nothing.
void WorkerLane::handle(ReportNext& report) {
  NextRounds notice{report.server, report.attempt, {}, 0};
  if (const MessageStream* const messages = links_[report.server].messages.get())
    notice.next_message = messages->expects();
  for (const WorkerSlice& slice : links_[report.server].slices)
    notice.next.push_back(slice.key == nullptr ? kNoRound : slice.next);
  tell(std::move(notice));
}

void WorkerLane::handle(ConnectServer& connect) {
  Link& link = links_[connect.server];
  if (link.endpoint != nullptr) return;  // a late answer to an attempt that was given up
  link.attempt = connect.attempt;
  link.peer_expects = connect.next_message;
  // What the server has not got goes again; what it has only waits for its answer.
  link.ready.clear();
  for (std::uint32_t i = 0; i < link.slices.size(); ++i) {
    const WorkerSlice& slice = link.slices[i];
    if (slice.key == nullptr || slice.state == State::kIdle) continue;
    const Round arrived = i < connect.next.size() ? connect.next[i] : 0;
    if (slice.state == State::kQueued || arrived <= slice.next) make_ready(link, i);
  }
  EndpointOptions options;
  options.id = connect.server;
  options.provider = connect.provider;
  options.token = connect.token;
  options.send_depth = kSendDepth;
  options.deadline_ns = connect.deadline_ns;
  auto endpoint = device_.connect(*queue_, connect.address, options);
  if (endpoint.ok())
    link.endpoint = std::move(*endpoint);
  else
    tell(ServerDisconnected{connect.server, connect.attempt, endpoint.status()});
}

void WorkerLane::handle(DisconnectServer& disconnect) {
  Link& link = links_[disconnect.server];
  if (link.endpoint != nullptr && link.attempt == disconnect.attempt) link.endpoint->close();
}

void WorkerLane::on_disconnected(Rank server) {
  Link& link = links_[server];
  ServerDisconnected notice{server, link.attempt, link.endpoint->status()};
  if (link.messages != nullptr) link.messages->disconnected();
  link.endpoint.reset();
  link.up = false;
  link.window_bytes = 0;
  for (WorkerSlice& slice : link.slices) {
    slice.posted = 0;
    slice.in_place = false;
  }
  tell(std::move(notice));
}

// ---- keys ---------------------------------------------------------------------------------------

void WorkerLane::handle(AddKeys& add) {
  std::vector<std::vector<Range>> ranges(add.keys.size());
  for (Rank server = 0; server < links_.size(); ++server) {
    Link& link = links_[server];
    for (const SlicePlace& place : add.placement[server].slices) {
      if (place.slice >= link.slices.size()) link.slices.resize(place.slice + 1);
      WorkerSlice& slice = link.slices[place.slice];
      CHECK(slice.key == nullptr, "slice {} of server {} is taken", place.slice, server);
      slice = {};
      slice.key = add.keys[place.declaration];
      slice.position = (next_position_ + place.declaration) << 24 | place.slice;
      slice.elements = place.elements;
      if (slice.key->encoder != nullptr)
        slice.encoded_offset = slice.key->encoder->offset(place.elements);
      slice.slot_offset = add.grants[server].slots.offset + place.slot_offset;
      slice.slot_bytes = place.slot_bytes;
      slice.slots = add.grants[server].slots.region;
      auto& mine = ranges[place.declaration];
      if (mine.empty() || mine.back().server != server) mine.push_back({server, {}});
      mine.back().slices.push_back(place.slice);
    }
    link.ready.reserve(link.slices.size());
    if (!add.batch.empty()) add_views(add, server);
  }
  next_position_ += add.keys.size();
  for (std::size_t i = 0; i < add.keys.size(); ++i)
    if (!ranges[i].empty()) keys_.emplace_back(add.keys[i], std::move(ranges[i]));
  std::sort(keys_.begin(), keys_.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
}

void WorkerLane::handle(DropKeys& drop) { drops_.push_back(std::move(drop)); }

// A key goes when its last write is completed: until then its buffer is lent to the provider.
std::size_t WorkerLane::finish_drops() {
  const DropKeys& drop = drops_.front();
  for (const InflightKey* key : drop.keys)
    if (still_posted(key)) return 0;
  for (Link& link : links_)
    for (WorkerSlice& slice : link.slices)
      if (std::find(drop.keys.begin(), drop.keys.end(), slice.key) != drop.keys.end()) slice = {};
  std::erase_if(keys_, [&](const auto& entry) {
    return std::find(drop.keys.begin(), drop.keys.end(), entry.first) != drop.keys.end();
  });
  tell(KeysRemoved{drop.sequence});
  drops_.erase(drops_.begin());
  return 1;
}

bool WorkerLane::still_posted(const InflightKey* key) const {
  return std::any_of(links_.begin(), links_.end(), [&](const Link& link) {
    return std::any_of(link.slices.begin(), link.slices.end(), [&](const WorkerSlice& slice) {
      return slice.key == key && slice.posted > 0;
    });
  });
}

}  // namespace penstock
