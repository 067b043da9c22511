// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connection: a Sender, a Receiver, what the peer granted, and the socket beside them.
// Thread: the owner of its queue.
//
//   kConnecting ─ hello sent ─▶ kGreeting ─ welcome ─▶ kOpen ─ close, loss, violation ─▶ kEnding
//   kWaiting ─── the listener hands a peer over ─────────┘                      then kEnded
// An open endpoint whose peer is leaving takes in what the peer published before, then ends.
// kEnding hands out the remaining completions.

#include <memory>
#include <span>
#include <string>

#include "transport/api/device.h"
#include "transport/parts/event_sink.h"
#include "transport/shm/counts.h"
#include "transport/shm/imports.h"
#include "transport/shm/peer.h"
#include "transport/shm/receiver.h"
#include "transport/shm/region_table.h"
#include "transport/shm/sender.h"

namespace penstock::shm {

class ShmQueue;
class Listener;

// A connection whose hello named a waiting endpoint's token.
struct Adoption {
  std::uint64_t serial = 0;  // of the endpoint
  std::unique_ptr<Peer> peer;
};

class ShmEndpoint final : public Endpoint {
 public:
  // Connects when `listener` is null, else waits for what that listener hands over.
  ShmEndpoint(ShmQueue& queue, RegionTable& regions, Counts& counts, Listener* listener,
              const EndpointOptions& options, SharedMemory segment, const CudaDriver* cuda);
  ~ShmEndpoint() override;
  ShmEndpoint(const ShmEndpoint&) = delete;
  ShmEndpoint& operator=(const ShmEndpoint&) = delete;

  // Once, right after construction, for a connector.
  void start(const std::string& peer_name);

  Status post(std::span<const WorkRequest> work) override;
  using Endpoint::post;
  void close() override { end(Status(Code::kCancelled, "closed by its owner")); }
  bool connected() const override { return state_ == State::kOpen && !leaving_; }
  std::uint32_t send_free() const override { return connected() ? sender_.free() : 0; }
  Status status() const override;
  Result<std::shared_ptr<RemoteMapping>> map(const RemoteRegion& remote, Access access) override;

  // For the queue.
  void adopt(Adoption adoption);
  void look_at_socket() { look_ = true; }
  void step(EventSink& sink, std::uint64_t pass);
  // Would step() find something to do?
  bool wants_step() const;
  // Number of the sleep, or 0: the owner polls.
  void set_asleep(std::uint64_t sleep);
  // By when it must be connected; kNever once that is decided.
  TimeNs deadline_ns() const { return state_ <= State::kWaiting ? options_.deadline_ns : kNever; }
  void check_deadline(TimeNs now_ns);
  std::uint64_t serial() const { return serial_; }

 private:
  enum class State : std::uint8_t { kConnecting, kGreeting, kWaiting, kOpen, kEnding, kEnded };
  enum class Run : std::uint8_t { kStarted, kMore, kStuck, kViolation };

  // Its life.
  void say_hello();
  void introduce(MessageKind kind);
  void open(std::unique_ptr<Peer> peer);
  bool send(const Message& message, std::span<const int> fds = {});
  void take_mail();
  void take(Parcel& parcel);
  void answer(const Message& ask);
  void leave(Status reason);
  void refuse(Code code, const char* what);
  void end(Status status);
  void report_end(EventSink& sink);
  int socket() const { return peer_ != nullptr ? peer_->socket.get() : socket_.get(); }

  // Its traffic.
  bool take_acknowledgements();  // false: the peer cannot have consumed that
  void run_posts();
  Run run(Sender::Post& post, std::size_t& budget);
  Run run_bytes(Sender::Post& post, std::size_t& budget);
  // `mapped`: the peer's region in our memory; null: the kernel copies.
  Run copy_in_place(Sender::Post& post, std::byte* mapped, std::uint64_t base, std::size_t& budget);
  Code move(const Sender::Post& post, std::byte* mapped, std::uint64_t base, std::size_t length);
  bool leaves_share(const Sender::Post& post);
  Run push_pieces(Sender::Post& post, std::size_t& budget);
  Run violate(Code code, const char* what);
  void publish();
  void ring();
  void retire(EventSink& sink);
  void complete(const Sender::Post& post, Code code, EventSink& sink);

  ShmQueue& queue_;
  RegionTable& regions_;
  Counts& counts_;
  Listener* const listener_;
  const EndpointOptions options_;
  const std::uint64_t serial_;

  State state_;
  std::string peer_name_;
  UniqueFd segment_fd_;  // until it is sent
  const Segment own_;
  UniqueFd socket_;             // until there is a peer
  std::unique_ptr<Peer> peer_;  // while kOpen
  Sender sender_;
  Receiver receiver_;
  Imports imports_;

  bool announce_ = false;                       // kConnected is still to be emitted
  bool look_ = false;                           // the socket may hold something
  bool leaving_ = false;                        // the peer says no more; status_ is why
  bool stuck_ = false;                          // the next post waits for the peer
  std::uint64_t published_ = 0, answered_ = 0;  // as last told to the peer
  std::uint64_t mail_sent_ = 0, mail_seen_ = 0;
  bool news_ = false, acks_ = false;  // told since we last looked whether the peer sleeps
  std::uint64_t rung_ = 0;            // the sleep of the peer that we rang into
  std::uint64_t last_pass_ = 0;
  Status status_;  // why it ended
};

}  // namespace penstock::shm
