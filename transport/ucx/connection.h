// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connection: the endpoint its owner posts on, the rendezvous socket and the line over UCX.
//
//   connector  kConnecting ─ TCP up ─▶ kGreeting ─ welcome ─▶ kPairing ─ ready ─▶ kOpen
//   acceptor   kWaiting ─ adopted ─▶ kGreeting ─ hello ─▶ kPairing ─ pair ─▶ kOpen
// and from each of them kEnding, where the line is cut and the rest is completed, then kEnded.
//
//      retired ≤ acknowledged ≤ posted      here: `posts_`, by sequence number
//      reported ≤ served ≤ arrived          from the peer: `arrivals_`, by its sequence numbers
// An arrival is served once it and all before it have landed, reported once its event, if any, was
// taken from the queue; what is reported is what the peer is told was applied.
// UCX calls on_frame(), on_line_failed() and the static callbacks from inside progress(); these
// only note what happened, step() acts on it.
// Thread: whoever holds the queue's gate.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transport/api/device.h"
#include "transport/parts/event_sink.h"
#include "transport/parts/region_table.h"
#include "transport/ucx/frame.h"
#include "transport/ucx/listener.h"
#include "transport/ucx/rendezvous.h"
#include "transport/ucx/worker.h"

namespace penstock::ucx {

using parts::EventSink;
using parts::RegionTable;

class UcxQueue;

class Connection final : public LineOwner {
 public:
  // Connects when `listener` is null, else waits for what that listener hands over.
  Connection(UcxQueue& queue, const RegionTable& regions, Listener* listener,
             const EndpointOptions& options);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Once, right after construction, for a connector: the socket and connect()'s errno.
  void start(UniqueFd fd, int error, const std::string& peer);

  Status post(std::span<const WorkRequest> work);
  void close();
  // Ends without a word to the owner; true when nothing of it is left with UCX.
  bool abandon();
  bool connected() const { return state_ == State::kOpen; }
  std::uint32_t send_free() const { return connected() ? free_posts() : 0; }
  Status status() const;

  // For the queue.
  void adopt(Adoption adoption);
  void on_socket_events(std::uint32_t epoll_events);
  ucs_status_t on_frame(const FrameHeader& header, void* data, std::size_t length,
                        std::uint64_t receive_attributes);
  void on_line_failed(ucs_status_t status) override;
  // Reads the socket, completes, acknowledges. True: call again without waiting for anything.
  bool step(EventSink& sink);
  // Before sleeping: sends what is owed. True: do not sleep.
  bool settle();
  TimeNs deadline_ns() const { return settling() ? options_.deadline_ns : kNever; }
  void check_deadline(TimeNs now_ns);
  // Ends it if bytes of that region are still under way: their owner has waited long enough.
  void cut_if_using(std::uint64_t key);

  std::uint64_t key() const { return key_; }
  std::uint64_t serial() const { return key_; }

 private:
  friend class UcxQueue;  // the links of its ready list
  enum class State : std::uint8_t {
    kConnecting,
    kWaiting,
    kGreeting,
    kPairing,
    kOpen,
    kEnding,
    kEnded
  };

  struct Post {
    FrameHeader header;
    Connection* owner = nullptr;
    std::span<std::byte> local;  // payload, or where a read lands
    std::uint64_t tag = 0;
    Opcode opcode{};
    bool sending = false;  // UCX reads header and payload
    bool landing = false;  // kRead: UCX writes the payload
    bool landed = false;   // kRead: the response is in place
  };
  struct Arrival {
    enum class State : std::uint8_t { kNone, kLanding, kLanded, kReadAsked, kResponding, kRefused };
    FrameHeader header;
    Connection* owner = nullptr;
    RegionTable::Guard guard;
    std::span<std::byte> bytes;  // kReadAsked: what to send
    void* message = nullptr;     // UCX's, lent until ucp_am_data_release()
    State state = State::kNone;
    Code code = Code::kOk;  // kRefused
  };

  bool settling() const { return state_ < State::kOpen; }
  bool carries_frames() const { return state_ == State::kPairing || state_ == State::kOpen; }

  // Life: connection.cc.
  void push(const WorkRequest& request);
  void finish_connect();
  void read_socket();
  void act_on(const Greeting& greeting, std::span<const std::byte> address);
  void greet();
  void take_hello(const Greeting& hello, std::span<const std::byte> address);
  void take_welcome(const Greeting& welcome, std::span<const std::byte> address);
  void take_pair(const Greeting& pair);
  Status remember_peer(const Greeting& greeting);
  void say(GreetingType type, Code code = Code::kOk, std::uint32_t index = 0);
  void refuse(Code code, const char* what);
  void lost(std::string what, int error);
  void end(Status status);

  // Traffic: connection_io.cc.
  Post& post_at(std::uint64_t sequence) { return posts_[sequence & posts_mask_]; }
  const Post& post_at(std::uint64_t sequence) const { return posts_[sequence & posts_mask_]; }
  Arrival& arrival_at(std::uint64_t sequence) { return arrivals_[sequence & arrivals_mask_]; }
  std::uint32_t free_posts() const {
    return options_.send_depth - static_cast<std::uint32_t>(posted_ - retired_);
  }
  bool oldest_done() const;
  bool acknowledge(std::uint64_t sequence);
  bool owes_ack() const { return reported_ != announced_ack_; }
  void send(FrameHeader& header, std::span<const std::byte> payload, unsigned flags,
            ucp_send_nbx_callback_t callback, void* user, bool& under_way);
  void acknowledge_if_due(bool idle);
  // Frames in: connection_arrivals.cc.
  ucs_status_t take_write(const FrameHeader& header, void* data, std::size_t length, bool rndv);
  ucs_status_t take_response(const FrameHeader& header, void* data, std::size_t length, bool rndv);
  ucs_status_t take_message(const FrameHeader& header, void* data, std::size_t length,
                            std::uint64_t receive_attributes);
  Arrival* open_arrival(const FrameHeader& header);
  ucs_status_t poison(Code code, const char* what);
  // Moves a payload to its place, at once or in the background; then `landing` stays true.
  ucs_status_t land(void* data, std::span<std::byte> to, bool rndv,
                    ucp_am_recv_data_nbx_callback_t callback, void* user, bool& landing);
  void serve();
  void respond(Arrival& arrival);
  void report(EventSink& sink);
  bool report_one(Arrival& arrival, EventSink& sink);
  void retire(EventSink& sink);
  void complete(const Post& post, Code code, EventSink& sink);
  void finish_ending(EventSink& sink);
  bool drained() const { return under_way_ == 0; }
  void over();  // one operation of UCX is

  static void on_post_sent(void* request, ucs_status_t status, void* user);
  static void on_response_sent(void* request, ucs_status_t status, void* user);
  static void on_ack_sent(void* request, ucs_status_t status, void* user);
  static void on_write_landed(void* request, ucs_status_t status, std::size_t length, void* user);
  static void on_read_landed(void* request, ucs_status_t status, std::size_t length, void* user);

  UcxQueue& queue_;
  const UcpApi& api_;
  const RegionTable& regions_;
  Listener* const listener_;
  const EndpointOptions options_;
  const std::uint64_t key_;

  State state_;
  Rendezvous socket_;
  std::string peer_;
  Worker* worker_ = nullptr;
  std::unique_ptr<Line> line_;
  Greeting hello_;  // of the peer, until it pairs
  std::vector<std::byte> peer_address_;
  std::uint64_t peer_key_ = 0;
  std::uint32_t peer_depth_ = 0;

  const std::uint64_t posts_mask_;
  const std::unique_ptr<Post[]> posts_;
  std::uint64_t posted_ = 0, acked_ = 0, retired_ = 0;

  std::uint64_t arrivals_mask_ = 0;
  std::unique_ptr<Arrival[]> arrivals_;
  std::uint64_t served_ = 0, reported_ = 0, announced_ack_ = 0, unacked_bytes_ = 0;

  std::uint32_t landing_writes_ = 0;

  FrameHeader ack_header_;
  bool ack_sending_ = false;
  std::uint32_t under_way_ = 0;  // operations UCX has not called back about

  bool readable_ = false;         // the socket may hold something
  bool announce_ = false;         // kConnected is still to be emitted
  bool arrived_ = false;          // something came since the last step
  bool line_failed_ = false;      // UCX gave up; the peer's last words may explain
  bool poisoned_ = false;         // the peer broke a rule: nothing more is taken from it
  Code poison_code_ = Code::kOk;  // when it is not about one arrival
  const char* poison_what_ = nullptr;
  TimeNs give_up_ns_ = kNever;  // line_failed_: last words are awaited until then; kEnding: UCX is
  std::string line_error_;
  Status status_;

  bool in_ready_list_ = false;
  Connection* next_ready_ = nullptr;
};

}  // namespace penstock::ucx
