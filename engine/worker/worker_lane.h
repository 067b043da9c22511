// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// WorkerLane: one thread's worth of a worker. It sends the slices of its lane index to every
// server, in order of priority within a byte window, and counts the answers that land in the
// parameters.
//
// Thread: run_once(), arm() and everything private: the lane's thread. command(): any thread of the
// worker, which serialises them; notice(): the control loop.
// No lock, allocation, log or blocking call on the normal path of run_once().

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "engine/protocol/storage.h"
#include "engine/runtime/loop.h"
#include "engine/runtime/message_inbox.h"
#include "engine/runtime/waker.h"
#include "engine/worker/inflight.h"
#include "engine/worker/slice_queue.h"
#include "transport/api/device.h"
#include "transport/base/ring.h"

namespace penstock {

// Control loop → lane.
struct AddKeys {
  std::vector<InflightKey*> keys;        // [declaration]; alive until KeysRemoved
  std::vector<LanePlacement> placement;  // [server]: this lane's slices
  std::vector<LaneGrant> grants;         // [server]: where they go, and where parameters are
  std::vector<Declaration> batch;        // of the keys, for the servers' layout; only with views
};
struct DropKeys {
  std::uint64_t sequence = 0;  // comes back in KeysRemoved
  std::vector<InflightKey*> keys;
};
struct ReportNext {  // for OpenLane: answered by NextRounds
  Rank server = 0;
  std::uint32_t attempt = 0;
};
struct ConnectServer {  // `next`: per slice, the first round of ours that has not arrived there
  Rank server = 0;
  std::uint32_t attempt = 0;
  ProviderKind provider{};
  std::string address;
  Token token{};
  TimeNs deadline_ns = 0;
  std::vector<Round> next;
  std::uint64_t next_message = 0;
};
struct DisconnectServer {  // the server lost attempt `attempt`
  Rank server = 0;
  std::uint32_t attempt = 0;
};
// User's thread → lane.
struct PushKey {
  InflightKey* key = nullptr;
  Round round = 0;
  bool nothing = false;
  bool not_finite = false;  // its key wants that said instead of the gradient
};
using WorkerLaneCommand = std::variant<std::monostate, PushKey, AddKeys, DropKeys, ReportNext,
                                       ConnectServer, DisconnectServer>;

// Lane → control loop.
struct ServerConnected {
  Rank server = 0;
};
struct ServerDisconnected {
  Rank server = 0;
  std::uint32_t attempt = 0;
  Status reason;
};
struct NextRounds {  // `next`: per slice, the first round whose answer has not arrived
  Rank server = 0;
  std::uint32_t attempt = 0;
  std::vector<Round> next;
  std::uint64_t next_message = 0;
};
struct KeyInitialised {
  InflightKey* key = nullptr;
};
struct KeyFailed {  // its parameters cannot be read in place
  InflightKey* key = nullptr;
  Status reason;
};
struct KeysRemoved {
  std::uint64_t sequence = 0;
};
using WorkerLaneNotice = std::variant<std::monostate, ServerConnected, ServerDisconnected,
                                      NextRounds, KeyInitialised, KeyFailed, KeysRemoved>;

class WorkerLane final : public Loop {
 public:
  // `receiver`: of open messages; nullptr: the lane carries none.
  static Result<std::unique_ptr<WorkerLane>> create(std::uint32_t index, std::uint32_t servers,
                                                    Device& device, Waker& control,
                                                    RegionCache& regions,
                                                    MessageReceiver* receiver);

  std::size_t run_once() override;
  bool arm() override;
  int fd() const override { return queue_->fd(); }
  TimeNs next_deadline_ns() const override { return kNever; }
  Waker& waker() override { return waker_; }

  bool command(WorkerLaneCommand&& command);  // false when the ring is full
  std::size_t commands_free() const { return commands_.free(); }
  void send(Rank server, MessageStream::Prepared&& message);  // any thread
  bool notice(WorkerLaneNotice& notice) { return notices_.pop(notice); }

 private:
  enum class State : std::uint8_t { kIdle, kQueued, kSent };
  struct WorkerSlice {
    InflightKey* key = nullptr;  // nullptr: this index is free
    std::uint64_t position = 0;  // order among slices of equal priority and round
    Slice elements;
    std::uint64_t slot_offset = 0;  // parity 0; parity 1 is slot_bytes later
    std::uint64_t slot_bytes = 0;
    RemoteRegion slots;
    bool in_place = false;  // the server reads the gradient where it is
    Round next = 0;         // the first round whose answer has not arrived
    State state = State::kIdle;
    bool nothing = false, not_finite = false;  // of this round
    bool encoded = false;              // this round's gradient is, and goes as it is if sent again
    std::uint64_t encoded_offset = 0;  // of its bytes, where the key has a codec
    std::uint8_t posted = 0;           // writes of it that are not completed
  };
  struct View {  // the slices of a batch whose parameters are read in place
    LaneGrant grant;
    std::vector<std::pair<InflightKey*, SlicePlace>> slices;
    std::vector<SliceStorage> storage;  // of each
  };
  struct Link {  // one server, as this lane sees it
    std::unique_ptr<Endpoint> endpoint;
    std::uint32_t attempt = 0;
    bool up = false;
    std::uint64_t window_bytes = 0;  // posted and not completed
    SliceQueue ready;
    std::vector<WorkerSlice> slices;          // [slice index]
    std::vector<View> views;                  // to be mapped once the connection is up
    std::unique_ptr<MessageStream> messages;  // nullptr: none are taken
    std::uint64_t peer_expects = 0;           // of the connection that is being made
  };
  struct Range {
    Rank server;
    std::vector<std::uint32_t> slices;
  };

  WorkerLane(std::uint32_t index, std::uint32_t servers, Device& device, Waker& control,
             std::unique_ptr<CompletionQueue> queue, RegionCache& regions,
             MessageReceiver* receiver);

  void handle(std::monostate) {}
  void handle(PushKey& push);
  void handle(AddKeys& add);
  void handle(DropKeys& drop);
  void handle(ReportNext& report);
  void handle(ConnectServer& connect);
  void handle(DisconnectServer& disconnect);

  void on_completion(const Completion& completion);
  void on_immediate(Link& link, std::uint32_t immediate);
  void on_answer(WorkerSlice& slice, bool failed);
  void on_mapped(Link& link, const InflightKey* key);
  void add_views(const AddKeys& add, Rank server);
  void map_views(Link& link);
  Status map_view(Link& link, const View& view, InflightKey*& failed);
  void on_disconnected(Rank server);
  void on_open_message(Rank server, const Completion& completion);
  void start_messages(Rank server);
  std::size_t take_messages();
  std::size_t send_ready(Link& link);
  bool post_slice(Link& link, std::uint32_t slice);
  void set_source(WorkerSlice& slice, WorkRequest& work);
  void make_ready(Link& link, std::uint32_t slice);
  std::size_t finish_drops();
  bool still_posted(const InflightKey* key) const;
  void tell(WorkerLaneNotice&& notice);

  const std::uint32_t index_;
  Device& device_;
  Waker& control_;
  std::unique_ptr<CompletionQueue> queue_;  // before links_: endpoints die first
  std::vector<Link> links_;                 // [server]
  std::vector<std::pair<InflightKey*, std::vector<Range>>> keys_;  // sorted by pointer
  std::vector<DropKeys> drops_;
  std::uint64_t next_position_ = 0;
  MessageInbox inbox_;
  Ring<WorkerLaneCommand> commands_;
  Ring<WorkerLaneNotice> notices_;
  Waker waker_;
};

}  // namespace penstock
