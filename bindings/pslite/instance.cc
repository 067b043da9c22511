// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/instance.h"

#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "transport/base/log.h"

namespace penstock::pslite {
namespace {

// Payloads up to here are copied when they are sent, so that memory of short life may be given.
constexpr std::size_t kCopyBytes = 4096;
constexpr auto kPause = std::chrono::milliseconds(50);

// What a node meets that comes while an old job ends or a new one begins.
bool passes(const Status& status) {
  switch (status.code()) {
    case Code::kAlreadyExists:
    case Code::kPeerLost:
    case Code::kConnectionLost:
    case Code::kStale:
    case Code::kCancelled:
      return true;
    default:
      return false;
  }
}

void own_small(Message& message) {
  std::size_t total = 0;
  for (const MessagePart& part : message.parts) total += part.bytes.size();
  if (total > kCopyBytes) return;
  for (MessagePart& part : message.parts)
    part = own({reinterpret_cast<const char*>(part.bytes.data()), part.bytes.size()});
}

}  // namespace

// ---- life ---------------------------------------------------------------------------------------

Status Instance::start(const NodeOptions& options, const SchedulerOptions& job, TimeNs deadline_ns,
                       const std::function<bool()>& covered) {
  bool told = false;
  while (true) {
    Status started = start_once(options, job, deadline_ns);
    if (started.ok() || !passes(started)) return started;
    if (clock_.now_ns() >= deadline_ns) return started;
    if (started.code() == Code::kAlreadyExists && covered()) return started;
    if (!std::exchange(told, true))
      PENSTOCK_LOG_INFO("ps: a {} tries again to join: {}", role_name(role_), started.to_string());
    std::this_thread::sleep_for(kPause);
  }
}

Status Instance::start_once(NodeOptions options, const SchedulerOptions& job, TimeNs deadline_ns) {
  options.messages = this;
  options.notes = this;
  options.call_timeout_ns = std::max<TimeNs>(deadline_ns - clock_.now_ns(), kSecond);
  if (role_ == Role::kScheduler) {
    PENSTOCK_ASSIGN_OR_RETURN(auto node, SchedulerNode::start(options, job));
    const std::unique_lock lock(mutex_);
    scheduler_ = std::move(node);
  } else if (role_ == Role::kServer) {
    PENSTOCK_ASSIGN_OR_RETURN(auto node, ServerNode::start(options));
    std::unique_lock lock(mutex_);
    server_ = std::move(node);
    lock.unlock();
    PENSTOCK_RETURN_IF_ERROR(wait_for_roster(deadline_ns));
  } else {
    PENSTOCK_ASSIGN_OR_RETURN(auto node, WorkerNode::start(options));
    const std::unique_lock lock(mutex_);
    worker_ = std::move(node);
  }
  attach();
  return {};
}

Status Instance::wait_for_roster(TimeNs deadline_ns) {
  Status failed;
  while (failed.ok()) {
    if (server_->server().rank() != kAnyRank) return {};
    if (const auto finished = server_->server().finished())
      failed = finished->ok() ? Status(Code::kCancelled, "the job was over at once") : *finished;
    else if (clock_.now_ns() >= deadline_ns)
      failed = {Code::kTimeout, "the job did not start: some member never joined"};
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  std::unique_lock lock(mutex_);
  const std::unique_ptr<ServerNode> node = std::move(server_);
  lock.unlock();
  return failed;
}

void Instance::attach() {
  std::vector<Message> early;
  {
    const std::unique_lock lock(mutex_);
    rank_ = worker_ ? worker_->worker().rank() : server_ ? server_->server().rank() : 0;
    for (Message& message : std::exchange(early_, {})) (void)post_attached(std::move(message));
    running_.store(true, std::memory_order_release);
  }
}

Status Instance::leave(TimeNs timeout_ns) {
  const TimeNs deadline_ns = clock_.now_ns() + timeout_ns;
  if (worker_) return worker_->worker().leave();
  if (server_) return server_->wait(deadline_ns);
  return scheduler_ ? scheduler_->wait(deadline_ns) : Status();
}

void Instance::stop() {
  if (const std::uint64_t dropped = running() ? resender_.dropped() : 0; dropped != 0)
    PENSTOCK_LOG_INFO("ps: node {}: {} messages thrown away, as PS_DROP_MSG asks", id(), dropped);
  std::unique_lock lock(mutex_);
  stopped_ = true;
  running_ = false;
  const std::unique_ptr<WorkerNode> worker = std::move(worker_);
  const std::unique_ptr<ServerNode> server = std::move(server_);
  const std::unique_ptr<SchedulerNode> scheduler = std::move(scheduler_);
  early_.clear();
  lock.unlock();
}

std::optional<Status> Instance::failure() const {
  const std::shared_lock lock(mutex_);
  if (!running()) return {};
  std::optional<Status> status;
  if (worker_) status = worker_->worker().failure();
  if (server_) status = server_->server().finished();
  if (scheduler_) status = scheduler_->scheduler().finished();
  if (status && status->ok()) status.reset();
  return status;
}

// ---- out ----------------------------------------------------------------------------------------

Status Instance::send(Message&& message) {
  if (running() && message.peer == id()) {
    own_small(message);
    owner_.arrived(*this, std::move(message));
    return {};
  }
  own_small(message);
  resender_.number(message);
  return post(std::move(message));
}

void Instance::resend() {
  for (Message& message : resender_.due()) (void)post(std::move(message));
}

Status Instance::post(Message&& message) {
  {
    const std::shared_lock lock(mutex_);
    if (stopped_) return {Code::kCancelled, "this node has left the job"};
    if (running()) return post_attached(std::move(message));
  }
  const std::unique_lock lock(mutex_);
  if (running()) return post_attached(std::move(message));
  early_.push_back(std::move(message));
  return {};
}

Status Instance::post_attached(Message&& message) {
  const Role to = role_of(message.peer);
  const Rank rank = rank_of(message.peer);
  const bool open = (role_ == Role::kWorker && to == Role::kServer) ||
                    (role_ == Role::kServer && to == Role::kWorker);
  if (open) {
    OpenMessage out;
    out.meta = encode(message.envelope);
    out.parts = std::move(message.parts);
    out.priority = message.priority;
    return worker_ ? worker_->worker().send(rank, 0, std::move(out))
                   : server_->server().send(rank, 0, std::move(out));
  }
  Note note{to, rank, encode_note(message)};
  if (worker_) return worker_->worker().send_note(std::move(note));
  if (server_) return server_->server().send_note(std::move(note));
  return scheduler_->scheduler().send_note(std::move(note));
}

// ---- in -----------------------------------------------------------------------------------------

void Instance::arrived(Message&& message) {
  Resender::Arrival arrival = resender_.arrived(std::move(message));
  for (Message& each : arrival.deliver) owner_.arrived(*this, std::move(each));
  for (Message& each : arrival.send) (void)post(std::move(each));
}

void Instance::on_open_message(Rank from, OpenMessage&& open) {
  Message message;
  if (!decode(open.meta, message.envelope)) return;
  message.peer = role_ == Role::kWorker ? server_id(from) : worker_id(from);
  message.parts = std::move(open.parts);
  arrived(std::move(message));
}

void Instance::place_open_message(Rank from, std::span<const std::byte> meta,
                                  std::span<const std::uint64_t> sizes,
                                  std::span<MessagePart> parts) {
  Envelope envelope;
  const int peer = role_ == Role::kWorker ? server_id(from) : worker_id(from);
  if (!decode(meta, envelope) || !resender_.fresh(peer, envelope.sequence)) return;
  owner_.place(*this, peer, envelope, sizes, parts);
}

void Instance::on_note(Role from, Rank rank, std::span<const std::uint8_t> body) {
  Message message;
  if (!decode_note(body, message)) return;
  message.peer = id_of(from, rank);
  arrived(std::move(message));
}

void Instance::on_gone(Role role, Rank rank, const Status& reason) {
  owner_.gone(*this, id_of(role, rank), reason);
}

}  // namespace penstock::pslite
