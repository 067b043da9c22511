// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connection: a ring of posts and the paths that carry them. Thread: the owner of its queue.
//
//   kConnecting ─ every path of the home rail is up ─▶ kOpen ─ close, loss, a violation ─▶ kEnding
//   kWaiting ─ the listener brings the paths ─▶──┘                          kEnding ─▶ kEnded
// kEnding has its queue pairs in the error state; when the last completion of each was polled the
// remaining posts complete with the reason, then kDisconnected follows.
//
// On each rail that both ends have there is a path in the protection domains of the two endpoints'
// scopes, which reaches what is registered under them. If either end has a scope of its own, a
// second one joins the domains of kAnyScope. A post goes to the paths that reach its region:
//   ordered    to the home rail's; where the one before it took the other path there, once every
//              post before it is done. Traffic that stays on one path never waits.
//   unordered  to the rail on which it will be done first (rail_choice.h).
// The home rail is the connection's first; paths of other rails come and go while it is open
// (endpoint_paths.cc), but one that was up and fails ends the connection: what was under way on it
// may land late, so nothing of it may be posted again before every queue pair is in error.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/api/device.h"
#include "transport/parts/event_sink.h"
#include "transport/verbs/greeting.h"
#include "transport/verbs/path.h"
#include "transport/verbs/rail_choice.h"

namespace penstock::verbs {

class VerbsQueue;
class Listener;

using parts::EventSink;

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
  static constexpr std::size_t kDomains = 2;  // paths on one rail
  static constexpr std::size_t kPaths = kMaxRails * kDomains;
  // Unordered bytes that may be under way on one path, so that a wrong prediction costs little and
  // the next one knows more: many round trips' worth for the fastest link there is.
  static constexpr std::uint64_t kSpreadBytes = std::uint64_t{4} << 20;

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
  // When it wants to be asked again: to give up connecting, or to look for missing rails.
  TimeNs deadline_ns() const { return settling() ? options_.deadline_ns : probe_ns_; }
  void check_deadline(TimeNs now_ns);
  std::uint64_t serial() const { return serial_; }
  void end(Status status);
  void on_rail_lost(const RailQueue& rail, const Status& reason);  // and all paths over it
  void on_rail_back();  // some rail: tries what is missing

  // For its paths.
  void on_answer(Path& path, const Greeting& theirs);
  void on_path_up(Path& path);
  void on_path_lost(Path& path, const Status& reason);
  void on_rail_failed(const Path& path);  // its device is at fault, not the peer's program
  void on_post_done(std::uint64_t post);
  void on_arrival(const Arrival& arrival);
  void wake();
  std::uint32_t message_bytes() const { return context_.message_bytes; }

 private:
  friend class VerbsQueue;  // the links of its ready list
  enum class State : std::uint8_t { kConnecting, kWaiting, kOpen, kEnding, kEnded };

  struct Keys {
    std::uint32_t local = 0;
    std::uint32_t remote = 0;
  };
  struct Post {
    Opcode opcode{};
    bool has_immediate = false;
    bool gpu = false;  // the local bytes are not the host's: never inline
    bool unordered = false;
    std::uint8_t domain = 0;
    std::uint8_t rails = 0;   // a bit for each rail that it may go over
    bool done = false;        // successfully
    Code poison = Code::kOk;  // refused by what we know of the peer: fails when its turn comes
    std::uint32_t immediate = 0;
    std::uint64_t tag = 0;
    std::uint64_t length = 0;
    std::uint64_t local = 0;
    std::uint64_t remote = 0;
    std::uint64_t issued = 0;  // bytes of it that the device has
    std::array<Keys, kMaxRails> keys{};
  };
  // Messages to this endpoint: `window` slots, written by the peer. In the first path's domain.
  struct MessageRing {
    std::vector<std::byte> bytes;
    ibv_mr* mr = nullptr;
  };

  bool settling() const { return state_ <= State::kWaiting; }
  bool connector() const { return listener_ == nullptr; }
  // Of the connection; known once the peer has answered.
  std::size_t domains() const {
    return options_.scope != kAnyScope || theirs_.scoped ? kDomains : 1;
  }
  std::size_t home() const { return home_->rail().index(); }
  std::unique_ptr<Path>& path(std::size_t rail, std::size_t domain) {
    return paths_[rail * kDomains + domain];
  }
  Path* path_up(std::size_t rail, std::size_t domain) const {
    Path* path = paths_[rail * kDomains + domain].get();
    return path != nullptr && path->up() ? path : nullptr;
  }
  Result<Path*> add_path(std::size_t rail, std::size_t domain);
  Status dial(std::size_t rail, std::size_t domain);
  void dial_missing();
  void leave_out(Path& path, const Status& reason);
  Status make_ring();
  void settle_on(RailQueue& rail);
  Greeting greeting(const Path& path) const;
  Status admit(const Greeting& theirs) const;
  void open();

  Status check(const WorkRequest& request) const;
  Status prepare(const WorkRequest& request, Post& post);
  Status find_keys(const WorkRequest& request, Post& post) const;
  void push();
  Path* choose_path(const Post& post);
  Path* choose_rail(const Post& post) const;
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
  RailQueue* home_ = nullptr;  // once the connection is under way
  std::string peer_;
  std::vector<IpAddress> peer_rails_;                // where a connector dials
  Greeting theirs_;                                  // the peer's, of the first path
  std::array<std::unique_ptr<Path>, kPaths> paths_;  // [rail][domain]; null where there is none
  MessageRing messages_;
  TimeNs probe_ns_ = kNever;  // of a connector that lacks rails: when it dials them again
  TimeNs probe_delay_ns_ = 0;
  bool announce_ = false;  // kConnected is still to be emitted
  Status status_;          // why it ended

  // Each counts posts ever: retired_ ≤ done_ ≤ issued_ ≤ accepted_ ≤ retired_ + send_depth.
  std::vector<Post> posts_;        // a ring of send_depth
  std::uint64_t accepted_ = 0;     // by post()
  std::uint64_t issued_ = 0;       // to the device
  std::uint64_t done_ = 0;         // successfully, and all before
  std::uint64_t retired_ = 0;      // told to the owner
  std::uint8_t last_domain_ = 0;   // of the latest ordered post accepted
  std::uint8_t issue_domain_ = 0;  // of the latest ordered post issued
  bool credit_wait_ = false;       // the next post waits for the peer's receives

  std::vector<Arrival> arrivals_;  // a ring, of all paths' windows
  std::uint64_t arrived_ = 0;
  std::uint64_t handed_out_ = 0;
  std::uint32_t held_ =
      0;  // of the first path, handed out but not consumed: messages are being read
  std::uint64_t held_pass_ = 0;  // in which poll

  VerbsEndpoint* next_ready_ = nullptr;
  bool in_ready_list_ = false;
};

}  // namespace penstock::verbs
