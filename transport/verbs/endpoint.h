// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connection: a ring of posts and the paths that carry them, all on one rail. Thread: the owner
// of its queue.
//
//   kConnecting ─ every path is up ─▶ kOpen ─ close, loss, a violation ─▶ kEnding ─▶ kEnded
//   kWaiting ─ the listener brings the paths ─▶──┘
// kEnding has its queue pairs in the error state; when the last completion of each was polled the
// remaining posts complete with the reason, then kDisconnected follows.
//
// Path 0 lives in the protection domains of the two endpoints' scopes and reaches what is
// registered under them. If either end has a scope of its own, path 1 joins the domains of
// kAnyScope. A post goes to the path that reaches its region, once every post on the other path is
// done: so the order holds across paths, and traffic that stays on one path never waits.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/api/device.h"
#include "transport/verbs/greeting.h"
#include "transport/verbs/path.h"

namespace penstock::verbs {

class VerbsQueue;
class Listener;

// Where poll() puts what happens. Whoever emits checks room() first.
class EventSink {
 public:
  explicit EventSink(std::span<Completion> out) : out_(out) {}
  bool room() const { return count_ < out_.size(); }
  void emit(const Completion& completion) { out_[count_++] = completion; }
  std::size_t count() const { return count_; }

 private:
  std::span<Completion> out_;
  std::size_t count_ = 0;
};

// A connection request whose token named a waiting endpoint. Whoever takes it owns `id`.
struct Adoption {
  std::uint64_t serial = 0;  // of the endpoint
  rdma_cm_id* id = nullptr;
  Greeting greeting;
};

// What every endpoint of a device is told.
struct EndpointContext {
  Incarnation incarnation = 0;
  std::uint32_t message_bytes = 0;
};

class VerbsEndpoint final : public Endpoint {
 public:
  static constexpr std::size_t kPaths = 2;

  // Connects by start() when `listener` is null, else waits for what that listener hands over.
  VerbsEndpoint(VerbsQueue& queue, const EndpointContext& context, Listener* listener,
                const EndpointOptions& options);
  ~VerbsEndpoint() override;
  VerbsEndpoint(const VerbsEndpoint&) = delete;
  VerbsEndpoint& operator=(const VerbsEndpoint&) = delete;

  // Once, right after construction, for a connector.
  Status start(const std::vector<IpAddress>& peer);  // an address for each of its rails

  Status post(std::span<const WorkRequest> work) override;
  using Endpoint::post;
  void close() override;
  bool connected() const override { return state_ == State::kOpen; }
  std::uint32_t send_free() const override {
    return connected() ? options_.send_depth - static_cast<std::uint32_t>(accepted_ - retired_) : 0;
  }
  Status status() const override;

  // For its queue.
  void adopt(const Adoption& adoption);
  // Hands out what happened and moves what can. True: there is more to hand out.
  bool step(EventSink& sink, std::uint64_t pass);
  TimeNs deadline_ns() const { return settling() ? options_.deadline_ns : kNever; }
  void check_deadline(TimeNs now_ns);
  std::uint64_t serial() const { return serial_; }
  void end(Status status);
  // The rail is gone, and with it every connection over it.
  void on_rail_lost(const RailQueue& rail, const Status& reason) {
    if (rail_ != &rail) return;
    on_rail_failed();
    end(reason);
  }
  // The device says the rail, not the peer's program, is at fault.
  void on_rail_failed();

  // For its paths.
  void on_answer(Path& path, const Greeting& theirs);
  void on_path_up(Path& path);
  void on_post_done() { ++done_; }
  void on_arrival(const Arrival& arrival);
  void wake();
  const std::string& peer() const { return peer_; }
  std::uint32_t message_bytes() const { return context_.message_bytes; }

 private:
  friend class VerbsQueue;  // the links of its ready list
  enum class State : std::uint8_t { kConnecting, kWaiting, kOpen, kEnding, kEnded };

  struct Post {
    Opcode opcode{};
    bool has_immediate = false;
    bool gpu = false;  // the local bytes are not the host's: never inline
    std::uint8_t path = 0;
    Code poison = Code::kOk;  // refused by what we know of the peer: fails when its turn comes
    std::uint32_t immediate = 0;
    std::uint32_t local_key = 0;
    std::uint32_t remote_key = 0;
    std::uint64_t tag = 0;
    std::uint64_t length = 0;
    std::uint64_t local = 0;
    std::uint64_t remote = 0;
    std::uint64_t issued = 0;  // bytes of it that the device has
  };
  // Messages to this endpoint: `window` slots, written by the peer. In path 0's domain.
  struct MessageRing {
    std::vector<std::byte> bytes;
    ibv_mr* mr = nullptr;
  };

  bool settling() const { return state_ <= State::kWaiting; }
  std::size_t paths_needed() const { return options_.scope != kAnyScope || theirs_.scoped ? 2 : 1; }
  Result<Path*> add_path();
  Status make_ring();
  void settle_on(RailQueue& rail);
  Greeting greeting(const Path& path) const;
  Status admit(const Greeting& theirs) const;
  void open();

  Status check(const WorkRequest& request) const;
  Status prepare(const WorkRequest& request, Post& post);
  void push();
  bool issue(Path& path, Post& post);
  bool issue_message(Path& path, const Post& post);
  bool make_room(Path& path, std::uint32_t slots, bool credit);

  void emit(EventSink& sink, Event event);
  void emit_arrivals(EventSink& sink);
  void retire(EventSink& sink);
  void complete(EventSink& sink, Code code);
  bool drained() const;

  VerbsQueue& queue_;
  const EndpointContext& context_;
  Listener* const listener_;
  const EndpointOptions options_;
  const std::uint64_t serial_;

  State state_;
  RailQueue* rail_ = nullptr;  // once the connection is under way
  std::string peer_;
  IpAddress peer_address_;  // where a connector dials
  Greeting theirs_;         // the peer's, of path 0
  std::array<std::unique_ptr<Path>, kPaths> paths_;
  std::size_t paths_added_ = 0;
  std::size_t paths_up_ = 0;
  MessageRing messages_;
  bool announce_ = false;  // kConnected is still to be emitted
  Status status_;          // why it ended

  // Each counts posts ever: retired_ ≤ done_ ≤ issued_ ≤ accepted_ ≤ retired_ + send_depth.
  std::vector<Post> posts_;      // a ring of send_depth
  std::uint64_t accepted_ = 0;   // by post()
  std::uint64_t issued_ = 0;     // to the device
  std::uint64_t done_ = 0;       // successfully
  std::uint64_t retired_ = 0;    // told to the owner
  std::uint8_t last_path_ = 0;   // of the latest post accepted
  std::uint8_t issue_path_ = 0;  // of the latest post issued
  bool credit_wait_ = false;     // the next post waits for the peer's receives

  std::vector<Arrival> arrivals_;  // a ring, of both paths' windows
  std::uint64_t arrived_ = 0;
  std::uint64_t handed_out_ = 0;
  std::uint32_t held_ = 0;       // of path 0, handed out but not consumed: messages are being read
  std::uint64_t held_pass_ = 0;  // in which poll

  VerbsEndpoint* next_ready_ = nullptr;
  bool in_ready_list_ = false;
};

}  // namespace penstock::verbs
