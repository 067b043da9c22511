// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// ServerLane: one thread's worth of a server. It polls its completion queue, decides when a slice's
// round is full, runs the fused update on it at once, while the slice is still in cache, and writes
// the parameters back to every live worker. It owns its slices, their memory and its endpoints.
//
// Thread: run_once(), arm() and everything private: the lane's thread. command() and notice():
// the server's control loop, which is the only other thread that touches a lane.
// No lock, allocation, log or blocking call on the normal path of run_once().

#include <array>
#include <memory>
#include <variant>
#include <vector>

#include "engine/protocol/limits.h"
#include "engine/runtime/loop.h"
#include "engine/runtime/message_inbox.h"
#include "engine/runtime/waker.h"
#include "engine/server/key_copy.h"
#include "engine/server/lane_tables.h"
#include "engine/server/slice_round.h"
#include "engine/server/update.h"
#include "transport/base/ring.h"

namespace penstock {

// Control loop → lane.
struct AddTables {
  std::unique_ptr<LaneTables> tables;
};
struct RemoveKeys {
  std::vector<Key> keys;
};
struct LendBuffers {  // the worker's buffers of each declaration of a batch
  std::uint64_t order = 0;
  Rank worker = 0;
  std::vector<RemoteBuffer> parameters;
  std::vector<RemoteBuffer> gradients;
  std::vector<std::uint8_t> views;
};
struct OpenEndpoint {  // `next`: per slice, the first round the worker has not received
  Rank worker = 0;
  std::uint32_t attempt = 0;
  ProviderKind provider{};
  Token token{};
  TimeNs deadline_ns = 0;
  std::vector<Round> next;
  std::uint64_t next_message = 0;
};
struct DropWorker {  // it left or died: closes its endpoint; rounds go on without it
  Rank worker = 0;
};
struct CopyKey {
  std::shared_ptr<KeyCopy> copy;  // all lanes have it
};
using ServerLaneCommand = std::variant<std::monostate, AddTables, RemoveKeys, LendBuffers,
                                       OpenEndpoint, DropWorker, CopyKey>;

// Lane → control loop.
struct EndpointOpened {  // `next`: per slice, the first round of this worker's that has not arrived
  Rank worker = 0;
  std::uint32_t attempt = 0;
  Token token{};
  std::vector<Round> next;
  std::uint64_t next_message = 0;
};
struct EndpointLost {
  Rank worker = 0;
  std::uint32_t attempt = 0;
  Status reason;
};
struct UpdatesFailed {  // the lane's rounds will not end
  Status reason;
};
using ServerLaneNotice = std::variant<std::monostate, EndpointOpened, EndpointLost, UpdatesFailed>;

struct ServerLaneStats {  // written by the lane, read by anyone
  std::atomic<std::uint64_t> updates{0};
  std::atomic<std::uint64_t> bytes_in{0};
  std::atomic<std::uint64_t> bytes_out{0};
  std::atomic<std::uint64_t> duplicates{0};
  std::atomic<std::uint64_t> in_place{0};      // gradients that were read where the worker has them
  std::atomic<std::uint64_t> memory_bytes{0};  // parameters, state, outgoing copies and slots
  // Slices of a round, round 0 aside, to which some worker's gradient was said not to be finite, or
  // whose sum was not; and those that each worker said it of.
  std::atomic<std::uint64_t> not_finite{0};
  std::array<std::atomic<std::uint64_t>, kMaxJobWorkers> not_finite_from{};
};

class ServerLane final : public Loop {
 public:
  static Result<std::unique_ptr<ServerLane>> create(std::uint32_t index, std::uint32_t workers,
                                                    Device& device,
                                                    std::unique_ptr<Updater> updater,
                                                    Waker& control, RegionCache& regions,
                                                    MessageReceiver* receiver);

  std::size_t run_once() override;
  bool arm() override;
  int fd() const override { return queue_->fd(); }
  TimeNs next_deadline_ns() const override { return kNever; }
  Waker& waker() override { return waker_; }

  bool command(ServerLaneCommand&& command);  // false when the ring is full: try again
  bool notice(ServerLaneNotice& notice) { return notices_.pop(notice); }
  void send(Rank worker, MessageStream::Prepared&& message);  // any thread
  const ServerLaneStats& stats() const { return stats_; }

 private:
  struct Peer {  // one worker, as this lane sees it
    std::unique_ptr<Endpoint> endpoint;
    std::uint32_t attempt = 0;
    bool draining = false;                  // closed; kDisconnected has not come yet
    std::unique_ptr<OpenEndpoint> opening;  // waits for that
    std::vector<std::uint32_t>
        waiting;  // slices whose answer could not be posted yet, oldest first
    std::size_t waiting_from = 0;
    bool map_again = false;                   // gradients of it are not mapped yet
    std::vector<std::uint32_t> signals;       // immediates without bytes that wait for room
    std::unique_ptr<MessageStream> messages;  // nullptr: none are taken
    std::uint64_t expects_message = 0;        // the worker, of the connection that is being made
    void forget_posted() {
      waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(waiting_from));
      waiting_from = 0;
    }
  };
  struct ServerSlice {
    LaneTables* tables = nullptr;  // nullptr: this index is free
    std::uint32_t index = 0;       // in the placement
    bool updating = false;         // the updater has it
    std::uint64_t in_place = 0;    // gradients that this update reads where the workers have them
    bool failed = false;           // the last full round changed nothing: its answers say so
    SliceRound round;
  };

  ServerLane(std::uint32_t index, std::uint32_t workers, Device& device,
             std::unique_ptr<Updater> updater, Waker& control,
             std::unique_ptr<CompletionQueue> queue, RegionCache& regions,
             MessageReceiver* receiver);

  void handle(std::monostate) {}
  void handle(AddTables& add);
  void handle(RemoveKeys& remove);
  void handle(LendBuffers& lend);
  void handle(OpenEndpoint& open);
  void handle(DropWorker& drop);
  void handle(CopyKey& command);
  Status copy_key(KeyCopy& copy, LaneTables& tables, std::uint32_t declaration);
  Status check_copy(KeyCopy& copy, const KeyTable& key, std::span<const std::size_t> indices,
                    const LaneTables& tables) const;
  static void read_key(KeyCopy& copy, const LaneTables& tables,
                       std::span<const std::size_t> indices);
  static Status write_key(const KeyCopy& copy, KeyTable& key, const LaneTables& tables,
                          std::span<const std::size_t> indices);

  std::size_t take_commands();
  bool knows(std::uint32_t slice, Rank worker) const;
  const Declaration& declaration(const ServerSlice& slice) const;
  void on_completion(const Completion& completion);
  void on_immediate(Rank worker, std::uint32_t immediate);
  void on_disconnected(Rank worker);
  void update_while_full(std::uint32_t slice);
  void finish_update(std::uint32_t slice);
  bool has_failed(const ServerSlice& slice) const;
  void note_not_finite(std::uint32_t slice);
  std::size_t finish_updates();
  void answer(std::uint32_t slice, Rank worker);
  bool post_answer(std::uint32_t slice, Rank worker);
  std::size_t post_waiting(Rank worker);
  void accept(Rank worker);
  void queue_missing_answers(Rank worker, const std::vector<Round>& next);
  void map_gradients(LaneTables& tables, Rank worker);
  std::size_t map_again(Rank worker);
  void announce(std::uint32_t slice, Rank worker);
  std::size_t post_signals(Peer& peer);
  void violate(Rank worker, const char* what, std::uint64_t value);
  void tell(ServerLaneNotice&& notice);
  void start_messages(Rank worker);
  void on_open_message(Rank worker, const Completion& completion);
  std::size_t take_messages();

  const std::uint32_t index_;
  const std::uint32_t workers_;
  Device& device_;
  Waker& control_;
  std::unique_ptr<CompletionQueue> queue_;  // before peers_: endpoints die first
  std::vector<Peer> peers_;                 // [worker]
  std::vector<ServerSlice> slices_;         // [slice index]
  std::vector<std::unique_ptr<LaneTables>> tables_;
  std::unique_ptr<Updater> updater_;  // after tables_, which it reads and writes
  bool failed_ = false;               // its failure was told
  RemoveKeys removal_;                // waits for updates of its keys; empty: none does
  std::uint64_t live_;                // bitmap of workers whose contribution is waited for
  MessageInbox inbox_;
  std::uint64_t not_finite_events_ = 0;  // that could have been logged
  Ring<ServerLaneCommand> commands_;
  Ring<ServerLaneNotice> notices_;
  Waker waker_;
  ServerLaneStats stats_;
};

}  // namespace penstock
