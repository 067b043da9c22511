// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One side of a connection. Posts wait in `ops_` until they are delivered (at once, or when the
// peer's queue has room) and completed. Delivery runs on the poster's thread: it passes the peer's
// gate, checks the region there, copies the bytes and pushes the immediate. With a fault plan,
// delivery, completion, connecting and loss are events on the timeline (endpoint_faults.cc).

#include <atomic>
#include <cstdint>
#include <string>

#include "transport/api/device.h"
#include "transport/loopback/completion_queue.h"
#include "transport/loopback/connection.h"
#include "transport/loopback/device.h"
#include "transport/loopback/fifo.h"
#include "transport/loopback/timeline.h"

namespace penstock::loopback {

class LoopbackEndpoint final : public Endpoint, private Timeline::Subject {
 public:
  LoopbackEndpoint(LoopbackDevice& device, LoopbackQueue& queue, const EndpointOptions& options);
  ~LoopbackEndpoint() override;

  Status post(std::span<const WorkRequest> work) override;
  void close() override;
  bool connected() const override { return state_ == State::kConnected; }
  std::uint32_t send_free() const override;
  Status status() const override { return reason_; }
  // Memory of allocate_memory() only: what the peer's program owns may go at any time.
  Result<std::shared_ptr<RemoteMapping>> map(const RemoteRegion& remote, Access access) override;

  // Owner thread, by the queue.
  void notice();            // takes in what other threads signalled
  bool retry();             // delivers what the peer had no room for; true: still none
  void expire();            // past the deadline to connect?
  void finish();            // everything that arrived was taken: kDisconnected
  void taken(Event event);  // poll() handed this completion out
  bool connecting() const { return state_ == State::kConnecting; }
  std::uint32_t id() const { return options_.id; }
  std::uint32_t outstanding() const { return outstanding_; }

  // By the switchboard, under its lock.
  void establish(Connection& connection, std::size_t side);
  Connection* connection() const { return connection_; }
  LoopbackDevice& device() const { return device_; }
  const Token& token() const { return options_.token; }

  // Any thread that holds the switchboard's lock or is inside this side's gate.
  void signal_lost(Code code);

  // With a fault plan only.
  void knock_later(const std::string& address);  // asks the switchboard after a delay
  void lose_later(Code code);                    // signal_lost() after a delay
  void land_some();                              // the connection breaks: what still gets through?
  void time_out_if_posting();  // the peer died silently: only what is posted ends, and late

 private:
  enum class State : std::uint8_t { kConnecting, kConnected, kFailed };
  struct Op {
    Opcode opcode{};
    bool has_immediate = false;
    bool unordered = false;
    std::uint32_t immediate = 0;
    std::uint64_t tag = 0;
    std::uint64_t local_key = 0;
    std::uint64_t local_offset = 0;
    std::uint64_t length = 0;
    Incarnation incarnation = 0;
    std::uint64_t remote_key = 0;
    std::uint64_t remote_offset = 0;
    std::uint64_t landing = 0;  // bytes to move: length, or less in a torn write
    // With a fault plan: when it is delivered, and when and how it completes.
    bool overtakes = false;  // keeps no place in line
    bool landed = false;     // delivered, or refused: see outcome
    TimeNs due_ns = 0;
    TimeNs done_ns = 0;
    Code outcome = Code::kOk;
  };
  // Events on the timeline; kLose + a Code.
  enum What : std::uint64_t { kDeliver, kComplete, kKnock, kEstablish, kDeadline, kLose = 256 };
  static constexpr Code kNotReady = Code::kExhausted;  // the peer's queue has no room

  Status check(const WorkRequest& request) const;
  static Op pack(const WorkRequest& request);
  bool advance();
  Code deliver(const Op& op);
  Code apply(LoopbackEndpoint& peer, const Op& op, std::byte* local);
  Code access_peer(LoopbackEndpoint& peer, const Op& op, std::byte* local);
  void complete(Code code);
  void fail(Status reason);
  void part();
  void signal_established();

  void on_due(std::uint64_t what) override;
  void set_out(std::size_t count);
  void deliver_due();
  void complete_due();
  void time_out();

  LoopbackDevice& device_;
  LoopbackQueue& queue_;
  const EndpointOptions options_;
  EndpointRef ref_;
  // Owner thread only.
  State state_ = State::kConnecting;
  bool stalled_ = false;  // known to the queue as waiting for room at the peer
  Status reason_;
  Fifo<Op> ops_;                   // posted, not yet completed
  std::uint32_t outstanding_ = 0;  // posted, completion not yet polled
  // With a fault plan only.
  Timeline* const timeline_;
  const Timeline::Handle handle_;
  std::string knock_address_;
  bool broken_ = false;        // nothing passes any more
  bool timing_out_ = false;    // nobody may be left to tell us; the retry timer runs
  TimeNs established_ns_ = 0;  // at the peer: nothing arrives before
  TimeNs last_due_ns_ = 0;     // nothing ordered overtakes
  // Written under the switchboard's lock before kEstablished is signalled.
  Connection* connection_ = nullptr;
  std::size_t side_ = 0;
  // Flags raised by other threads, with release, before the queue's attention; see notice().
  static constexpr std::uint32_t kEstablished = 1;
  static constexpr std::uint32_t kLost = 2;
  std::atomic<std::uint32_t> signals_{0};
  std::atomic<Code> lost_code_{Code::kOk};
};

}  // namespace penstock::loopback
