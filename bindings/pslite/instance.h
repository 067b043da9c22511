// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One node of the engine in this process: a worker, a server or the scheduler. Sends and receives
// messages by node id, whatever carries them.
//
// Thread: send() and the facts from any; start() and stop() from one at a time.

#include <shared_mutex>

#include "bindings/cpp/node.h"
#include "bindings/pslite/resender.h"

namespace penstock::pslite {

class Instance;

// Who owns instances. Called on the engine's threads: be quick, hand over.
class Postbox {
 public:
  virtual ~Postbox() = default;
  virtual void arrived(Instance& instance, Message&& message) = 0;
  // Where large parts are to land; as MessageReceiver::place_open_message().
  virtual void place(Instance& instance, int from, const Envelope& envelope,
                     std::span<const std::uint64_t> sizes, std::span<MessagePart> parts) = 0;
  virtual void gone(Instance& instance, int id, const Status& reason) = 0;
};

class Instance final : private MessageReceiver, private NoteReceiver {
 public:
  // index: among the instances of its role. customer: who started it.
  Instance(Postbox& owner, Role role, int index, int customer, const ResendOptions& resend)
      : owner_(owner), role_(role), index_(index), customer_(customer), resender_(clock_, resend) {}
  ~Instance() { stop(); }

  // Blocks until it is in the job (the scheduler: until it listens).
  // Refused because all are here, it tries again (an old job may be ending) unless `covered`.
  Status start(const NodeOptions& options, const SchedulerOptions& job, TimeNs deadline_ns,
               const std::function<bool()>& covered);
  // Out of the job in good order; bounded.
  Status leave(TimeNs timeout_ns);
  void stop();

  Role role() const { return role_; }
  int index() const { return index_; }
  int customer() const { return customer_; }
  bool running() const { return running_.load(std::memory_order_acquire); }
  Rank rank() const { return rank_.load(std::memory_order_acquire); }
  int id() const { return id_of(role_, rank()); }
  std::optional<Status> failure() const;

  // To message.peer. Before the node runs: kept until it does. After it stopped: kCancelled.
  Status send(Message&& message);
  // Messages that were lost go again. From time to time.
  void resend();

 private:
  void on_open_message(Rank from, OpenMessage&& message) override;
  void place_open_message(Rank from, std::span<const std::byte> meta,
                          std::span<const std::uint64_t> sizes,
                          std::span<MessagePart> parts) override;
  void on_note(Role from, Rank rank, std::span<const std::uint8_t> body) override;
  void on_gone(Role role, Rank rank, const Status& reason) override;

  Status start_once(NodeOptions options, const SchedulerOptions& job, TimeNs deadline_ns);
  Status wait_for_roster(TimeNs deadline_ns);
  void attach();
  void arrived(Message&& message);
  Status post(Message&& message);
  Status post_attached(Message&& message);

  Postbox& owner_;
  const Role role_;
  const int index_;
  const int customer_;
  SystemClock clock_;
  Resender resender_;
  std::atomic<Rank> rank_{kAnyRank};
  std::atomic<bool> running_{false};

  mutable std::shared_mutex mutex_;  // of what follows; never held while a node is destroyed
  bool stopped_ = false;
  std::vector<Message> early_;  // sent before the node ran
  std::unique_ptr<WorkerNode> worker_;
  std::unique_ptr<ServerNode> server_;
  std::unique_ptr<SchedulerNode> scheduler_;
};

}  // namespace penstock::pslite
