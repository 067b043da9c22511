// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/server/server_lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>

#include "engine/protocol/immediate.h"
#include "engine/protocol/limits.h"
#include "transport/base/log.h"

namespace penstock {
namespace {

// Immediates that may arrive between two polls; more wait at their senders.
constexpr std::uint32_t kQueueDepth = 4096;
constexpr std::size_t kCommands = 1024;

constexpr std::uint64_t all_of(std::uint32_t workers) {
  return workers == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << workers) - 1;
}

void count(std::atomic<std::uint64_t>& counter, std::uint64_t by) {  // one writer: no locked add
  counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
}

}  // namespace

Result<std::unique_ptr<ServerLane>> ServerLane::create(std::uint32_t index, std::uint32_t workers,
                                                       Device& device,
                                                       std::unique_ptr<Updater> updater,
                                                       Waker& control, RegionCache& regions,
                                                       MessageReceiver* receiver) {
  PENSTOCK_ASSIGN_OR_RETURN(auto queue, device.create_completion_queue(kQueueDepth));
  return std::unique_ptr<ServerLane>(new ServerLane(index, workers, device, std::move(updater),
                                                    control, std::move(queue), regions, receiver));
}

ServerLane::ServerLane(std::uint32_t index, std::uint32_t workers, Device& device,
                       std::unique_ptr<Updater> updater, Waker& control,
                       std::unique_ptr<CompletionQueue> queue, RegionCache& regions,
                       MessageReceiver* receiver)
    : index_(index),
      workers_(workers),
      device_(device),
      control_(control),
      queue_(std::move(queue)),
      peers_(workers),
      updater_(std::move(updater)),
      live_(all_of(workers)),
      commands_(kCommands),
      notices_(kCommands) {
  for (Rank worker = 0; receiver != nullptr && worker < workers; ++worker)
    peers_[worker].messages = std::make_unique<MessageStream>(
        device, regions, scope_of_worker(worker), worker, *receiver);
}

std::size_t ServerLane::take_commands() {
  std::size_t taken = 0;
  // What follows a removal may take the indices it frees, so it waits as well.
  for (ServerLaneCommand command; removal_.keys.empty() && commands_.pop(command); ++taken)
    std::visit([this](auto& body) { handle(body); }, command);
  return taken;
}

std::size_t ServerLane::run_once() {
  std::size_t done = take_commands();
  if (!inbox_.empty()) done += take_messages();
  std::array<Completion, kPollBatch> completions;
  const std::size_t polled = queue_->poll(completions);
  for (std::size_t i = 0; i < polled; ++i) on_completion(completions[i]);
  done += finish_updates();
  for (Rank worker = 0; worker < workers_; ++worker) {
    if (!peers_[worker].waiting.empty()) done += post_waiting(worker);
    if (!peers_[worker].signals.empty()) done += post_signals(peers_[worker]);
    if (peers_[worker].map_again) done += map_again(worker);
    if (peers_[worker].messages != nullptr) done += peers_[worker].messages->pump();
  }
  return done + polled;
}

bool ServerLane::arm() {
  return commands_.empty() && inbox_.empty() && updater_->may_sleep() && queue_->arm();
}

bool ServerLane::command(ServerLaneCommand&& command) {
  if (!commands_.push(std::move(command))) return false;
  waker_.wake();
  return true;
}

void ServerLane::tell(ServerLaneNotice&& notice) {
  // Two notices per attempt at most, and the control loop answers each before the next attempt.
  CHECK(notices_.push(std::move(notice)), "lane {}: the control loop does not listen", index_);
  control_.wake();
}

// ---- the life of a slice, hops 5 to 8 -----------------------------------------------------------

void ServerLane::on_completion(const Completion& completion) {
  const Rank worker = completion.endpoint;
  if (peers_[worker].messages != nullptr && carries_message(completion))
    return on_open_message(worker, completion);
  switch (completion.event) {
    case Event::kImmediate:
      count(stats_.bytes_in, completion.length);
      return on_immediate(worker, completion.immediate);
    case Event::kDisconnected:
      return on_disconnected(worker);
    case Event::kMessage:
      return violate(worker, "a message nobody asked for", completion.length);
    case Event::kConnected:
      start_messages(worker);
      for (const auto& tables : tables_) map_gradients(*tables, worker);
      return;
    default:  // a finished answer: nothing to do
      return;
  }
}

// A push may overtake the commands that prepared its slice, since those come by another way.
bool ServerLane::knows(std::uint32_t index, Rank worker) const {
  return index < slices_.size() && slices_[index].tables != nullptr &&
         !slices_[index].tables->lent[worker].parameters.empty();
}

void ServerLane::on_immediate(Rank worker, std::uint32_t bits) {
  const Immediate immediate = decode_immediate(bits);
  if (!knows(immediate.slice, worker)) take_commands();
  if (!knows(immediate.slice, worker))
    return violate(worker, "no such slice, or its buffers were not lent", immediate.slice);
  if (!is_push(immediate.kind)) return violate(worker, "no such kind of immediate", bits);
  ServerSlice& slice = slices_[immediate.slice];
  const Round round = expand_round(slice.round.round(), immediate.round_low);
  if (immediate.kind == SliceKind::kNotFinite &&
      (round == 0 || declaration(slice).spec.not_finite == NotFinite::kAccept))
    return violate(worker, "not finite, where its key takes all gradients", bits);
  if (immediate.kind == SliceKind::kInPlace) {
    // A worker may have heard kMapped of a key that had this index before.
    const std::uint32_t declaration = slice.tables->placement().slices[slice.index].declaration;
    if (round == 0 || slice.tables->lent[worker].mapped[declaration] == nullptr)
      return peers_[worker].signals.push_back(
          encode_immediate(SliceKind::kCopy, round, immediate.slice));
  }
  switch (slice.round.arrive(worker, round, immediate.kind)) {
    case SliceRound::Arrival::kAccepted:
      if (round == 0) announce(immediate.slice, worker);
      return update_while_full(immediate.slice);
    case SliceRound::Arrival::kDuplicate:
    case SliceRound::Arrival::kRetired:
      return count(stats_.duplicates, 1);
    case SliceRound::Arrival::kFuture:
      return violate(worker, "a round from the future", round);
  }
}

void ServerLane::update_while_full(std::uint32_t index) {
  ServerSlice& slice = slices_[index];
  while (!slice.updating && slice.round.full(live_)) {
    slice.updating = true;
    slice.in_place = slice.round.in_place();
    slice.failed = has_failed(slice);
    if (!slice.failed &&
        !updater_->start({*slice.tables, index, slice.index, slice.round.round(),
                          slice.round.contributors(live_), slice.in_place,
                          static_cast<std::uint32_t>(std::popcount(live_)), workers_}))
      return;
    finish_update(index);
  }
}

void ServerLane::finish_update(std::uint32_t index) {
  ServerSlice& slice = slices_[index];
  slice.updating = false;
  note_not_finite(index);
  if (!slice.failed) {
    count(stats_.updates, 1);
    count(stats_.in_place, static_cast<std::uint64_t>(std::popcount(slice.in_place)));
  }
  slice.round.retire();
  for (Rank worker = 0; worker < workers_; ++worker)
    if ((live_ >> worker & 1U) != 0) answer(index, worker);
}

std::size_t ServerLane::finish_updates() {
  std::array<std::uint32_t, kPollBatch> done;
  const std::size_t finished = updater_->poll(done);
  for (std::size_t i = 0; i < finished; ++i) {
    finish_update(done[i]);
    update_while_full(done[i]);
  }
  if (finished != 0 && !removal_.keys.empty()) handle(removal_);
  if (!failed_ && !updater_->failure().ok()) {
    failed_ = true;
    tell(UpdatesFailed{updater_->failure()});
  }
  return finished;
}

void ServerLane::answer(std::uint32_t slice, Rank worker) {
  Peer& peer = peers_[worker];
  const bool first_in_line = peer.waiting_from == peer.waiting.size();
  if (first_in_line && post_answer(slice, worker)) return;
  if (peer.waiting.size() == peer.waiting.capacity()) peer.forget_posted();  // never reallocate
  peer.waiting.push_back(slice);  // capacity for every slice: see AddTables
}

bool ServerLane::post_answer(std::uint32_t index, Rank worker) {
  Peer& peer = peers_[worker];
  if (peer.endpoint == nullptr || !peer.endpoint->connected() || peer.endpoint->send_free() == 0)
    return false;
  const ServerSlice& slice = slices_[index];
  if (slice.tables == nullptr) return true;  // the key was removed meanwhile
  const SlicePlace& place = slice.tables->placement().slices[slice.index];
  const SliceStorage& at = slice.tables->storage(slice.index);
  const TensorSpec& spec = slice.tables->keys()[place.declaration].declaration.spec;
  const std::size_t element_bytes = dtype_bytes(spec.parameter_dtype);
  WorkRequest work;
  work.opcode = Opcode::kWrite;
  work.has_immediate = true;
  work.unordered = true;  // see immediate.h
  work.immediate = encode_immediate(slice.failed ? SliceKind::kRoundFailed : SliceKind::kData,
                                    slice.round.round() - 1, index);
  work.tag = index;
  work.local = &slice.tables->outgoing(spec.parameter_dtype);
  work.local_offset = slice.tables->outgoing_offset(at, spec.parameter_dtype);
  work.length = place.elements.count * element_bytes;
  const LaneTables::Lent& lent = slice.tables->lent[worker];
  const RemoteBuffer& buffer = lent.parameters[place.declaration];
  work.remote = &buffer.region;
  work.remote_offset = buffer.offset + place.elements.begin * element_bytes;
  if (lent.views[place.declaration] != 0) work.length = 0;  // it reads them here
  if (!peer.endpoint->post(work).ok()) return false;
  count(stats_.bytes_out, work.length);
  return true;
}

std::size_t ServerLane::post_waiting(Rank worker) {
  Peer& peer = peers_[worker];
  std::size_t posted = 0;
  while (peer.waiting_from < peer.waiting.size() &&
         post_answer(peer.waiting[peer.waiting_from], worker)) {
    ++peer.waiting_from;
    ++posted;
  }
  if (peer.waiting_from == peer.waiting.size()) {
    peer.waiting.clear();
    peer.waiting_from = 0;
  }
  return posted;
}

// ---- connections --------------------------------------------------------------------------------

// The old connection is closed and drained before the new one exists and before the watermarks are
// read: nothing it still carried can land afterwards.
void ServerLane::handle(OpenEndpoint& open) {
  Peer& peer = peers_[open.worker];
  if ((live_ >> open.worker & 1U) == 0) return;
  const Rank worker = open.worker;
  peer.opening = std::make_unique<OpenEndpoint>(std::move(open));
  if (peer.endpoint == nullptr) return accept(worker);
  if (!peer.draining) peer.endpoint->close();
  peer.draining = true;
}

void ServerLane::accept(Rank worker) {
  Peer& peer = peers_[worker];
  const std::unique_ptr<OpenEndpoint> open = std::move(peer.opening);
  EndpointOptions options;
  options.id = worker;
  options.scope = scope_of_worker(worker);
  options.provider = open->provider;
  options.token = open->token;
  options.send_depth = kSendDepth;
  options.deadline_ns = open->deadline_ns;
  peer.attempt = open->attempt;
  peer.expects_message = open->next_message;
  auto endpoint = device_.accept(*queue_, options);
  if (!endpoint.ok()) return tell(EndpointLost{worker, open->attempt, endpoint.status()});
  peer.endpoint = std::move(*endpoint);
  queue_missing_answers(worker, open->next);

  EndpointOpened opened{worker, open->attempt, open->token, {}, 0};
  if (peer.messages != nullptr) opened.next_message = peer.messages->expects();
  opened.next.reserve(slices_.size());
  for (const ServerSlice& slice : slices_) opened.next.push_back(slice.round.next_round(worker));
  tell(std::move(opened));
}

// Answers that were posted on the old connection may be lost; the worker said what it has.
void ServerLane::queue_missing_answers(Rank worker, const std::vector<Round>& next) {
  Peer& peer = peers_[worker];
  peer.waiting.clear();
  peer.waiting_from = 0;
  for (std::uint32_t i = 0; i < slices_.size(); ++i)
    if (slices_[i].tables != nullptr && i < next.size() && next[i] < slices_[i].round.round())
      peer.waiting.push_back(i);
}

void ServerLane::on_disconnected(Rank worker) {
  Peer& peer = peers_[worker];
  peer.signals.clear();
  peer.map_again = false;
  const Status reason = peer.endpoint->status();
  if (peer.messages != nullptr) peer.messages->disconnected();
  peer.endpoint.reset();
  peer.draining = false;
  if (peer.opening != nullptr) return accept(worker);
  if ((live_ >> worker & 1U) != 0) tell(EndpointLost{worker, peer.attempt, reason});
}

void ServerLane::violate(Rank worker, const char* what, std::uint64_t value) {
  PENSTOCK_LOG_WARN("lane {}: worker {} broke the protocol: {} ({}); closing its data connection",
                    index_, worker, what, value);
  Peer& peer = peers_[worker];
  if (peer.endpoint != nullptr && !peer.draining) peer.endpoint->close();
  peer.draining = true;
}

// ---- keys and membership ------------------------------------------------------------------------

void ServerLane::handle(AddTables& add) {
  const auto& places = add.tables->placement().slices;
  for (std::uint32_t i = 0; i < places.size(); ++i) {
    if (places[i].slice >= slices_.size()) slices_.resize(places[i].slice + 1);
    CHECK(slices_[places[i].slice].tables == nullptr, "slice {} is taken", places[i].slice);
    slices_[places[i].slice] = {add.tables.get(), i, false, 0, false, {}};
  }
  // A slice waits at most once per worker, twice while a new round overtakes a resumed answer.
  for (Peer& peer : peers_) peer.waiting.reserve(4 * slices_.size());
  updater_->expect(slices_.size());
  count(stats_.memory_bytes, add.tables->memory_bytes());
  tables_.push_back(std::move(add.tables));
}

// Waits while one of them is being updated, which happens only after its workers are gone.
void ServerLane::handle(RemoveKeys& remove) {
  const auto named = [&](const ServerSlice& slice) {
    if (slice.tables == nullptr) return false;
    const SlicePlace& place = slice.tables->placement().slices[slice.index];
    const Key key = slice.tables->keys()[place.declaration].declaration.key;
    return std::find(remove.keys.begin(), remove.keys.end(), key) != remove.keys.end();
  };
  if (std::any_of(slices_.begin(), slices_.end(),
                  [&](const ServerSlice& slice) { return slice.updating && named(slice); })) {
    if (&remove != &removal_) removal_ = std::move(remove);
    return;
  }
  for (ServerSlice& slice : slices_) {
    if (!named(slice)) continue;
    --slice.tables->keys()[slice.tables->placement().slices[slice.index].declaration].slices;
    slice = {};
  }
  for (Peer& peer : peers_) {  // the indices may soon be another key's
    peer.forget_posted();
    std::erase_if(peer.waiting, [this](std::uint32_t i) { return slices_[i].tables == nullptr; });
  }
  std::erase_if(tables_, [this](const std::unique_ptr<LaneTables>& tables) {
    const bool empty = std::all_of(tables->keys().begin(), tables->keys().end(),
                                   [](const KeyTable& key) { return key.slices == 0; });
    if (empty) count(stats_.memory_bytes, -tables->memory_bytes());
    return empty;
  });
  removal_.keys.clear();
}

void ServerLane::handle(LendBuffers& lend) {
  for (const auto& tables : tables_)
    if (tables->order() == lend.order) {
      LaneTables::Lent& lent = tables->lent[lend.worker];
      lent.parameters = std::move(lend.parameters);
      lent.gradients = std::move(lend.gradients);
      lent.views = std::move(lend.views);
      lent.mapped.resize(lent.parameters.size());
      map_gradients(*tables, lend.worker);
    }
}

void ServerLane::handle(DropWorker& drop) {
  Peer& peer = peers_[drop.worker];
  live_ &= ~(std::uint64_t{1} << drop.worker);
  peer.opening.reset();
  peer.waiting.clear();
  peer.waiting_from = 0;
  peer.signals.clear();
  peer.map_again = false;
  peer.messages.reset();
  if (peer.endpoint != nullptr && !peer.draining) {
    peer.endpoint->close();
    peer.draining = true;
  }
  for (std::uint32_t i = 0; i < slices_.size(); ++i)
    if (slices_[i].tables != nullptr) update_while_full(i);
}

}  // namespace penstock
