// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connection: a Sender, a Receiver and the socket between them. Thread: the owner of its queue.
//
//   kConnecting ─ TCP is up ─▶ (kSecuring ─ TLS too ─▶) kGreeting ─ welcome ─▶ kOpen ─┬─ close,
//   loss, peer's error ─▶ kEnding kWaiting ───────── the listener hands a socket over ──▶──┘└─ the
//   peer misbehaves ─▶ kRefusing ─▶
// kRefusing sends the error frame behind the batch under way and reads on so that it arrives;
// kEnding has no socket and hands out the remaining completions; then kEnded, for ever.

#include <cstdint>
#include <span>
#include <string>

#include "transport/api/device.h"
#include "transport/base/unique_fd.h"
#include "transport/parts/event_sink.h"
#include "transport/tcp/context.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/receiver.h"
#include "transport/tcp/sender.h"
#include "transport/tcp/zerocopy.h"

namespace penstock::tcp {

using parts::EventSink;

class TcpQueue;
class Listener;

// A connection whose hello named a waiting endpoint's token.
struct Adoption {
  std::uint64_t serial = 0;  // of the endpoint
  UniqueFd fd;
  std::unique_ptr<TlsLink> tls;
  std::uint32_t peer_depth = 0;
};

class TcpEndpoint final : public Endpoint {
 public:
  // Connects when `listener` is null, else waits for what that listener hands over.
  // One of `context`'s places is taken for it.
  TcpEndpoint(TcpQueue& queue, DeviceContext& context, Listener* listener,
              const EndpointOptions& options);
  ~TcpEndpoint() override;
  TcpEndpoint(const TcpEndpoint&) = delete;
  TcpEndpoint& operator=(const TcpEndpoint&) = delete;

  // Once, right after construction, for a connector: the socket and connect()'s errno.
  void start(UniqueFd fd, int error, const std::string& peer);

  Status post(std::span<const WorkRequest> work) override;
  using Endpoint::post;
  void close() override;
  bool connected() const override { return state_ == State::kOpen; }
  std::uint32_t send_free() const override { return connected() ? sender_.free() : 0; }
  Status status() const override;

  // For the queue.
  void adopt(Adoption adoption);
  void on_socket_events(std::uint32_t epoll_events);
  // Sends, receives and reports within one pass's budget. True: call again without waiting for the
  // socket.
  bool step(EventSink& sink, std::uint64_t pass);
  // Before sleeping: sends what is owed. True: do not sleep.
  bool settle();
  // By when it must be connected; kNever once that is decided.
  TimeNs deadline_ns() const { return settling() ? options_.deadline_ns : kNever; }
  void check_deadline(TimeNs now_ns);

  std::uint64_t serial() const { return serial_; }

 private:
  friend class TcpQueue;  // the links of its ready list
  enum class State : std::uint8_t {
    kConnecting,
    kSecuring,
    kGreeting,
    kWaiting,
    kOpen,
    kRefusing,
    kEnding,
    kEnded
  };

  bool settling() const { return state_ <= State::kWaiting; }
  Sender::Post to_post(const WorkRequest& request) const;
  void finish_connect();
  void secure();
  void lost(const char* what, int error);
  void refuse(const Arrival& arrival);
  void step_refusal();
  void end(Status status, bool linger = false);
  void drop_lent();

  bool wants_step() const;
  bool owes_ack() const;
  void flush();
  bool flush_batch(std::size_t& budget);
  void response_lost();
  bool kernel_sends() const { return tls_ == nullptr || tls_->offloaded(); }
  ssize_t send_batch(std::span<iovec> batch);
  void release_lent();
  bool send_failed(int error);
  void want_writable(bool wanted);
  void receive(EventSink& sink);
  bool read_some(std::size_t& budget);
  void receive_failed(int error);
  void act_on(const Arrival& arrival, EventSink& sink);
  Status refused_by_peer(Code code) const;
  void answer_read(const FrameHeader& request);
  void await_read();
  void acknowledge_if_due(bool idle);
  void discard_input();
  void retire(EventSink& sink);
  void complete(const Sender::Post& post, Code code, EventSink& sink);
  void emit(EventSink& sink, Event event);
  void report_end(EventSink& sink);

  TcpQueue& queue_;
  DeviceContext& context_;
  const RegionTable& regions_;
  TcpCounters& counters_;  // the queue's
  Listener* const listener_;
  const EndpointOptions options_;
  const std::uint64_t serial_;

  State state_;
  UniqueFd fd_;
  std::unique_ptr<TlsLink> tls_;  // none: plain
  std::string peer_;
  Sender sender_;
  Receiver receiver_;
  ZerocopyLog zerocopy_;

  bool readable_ = false;   // the socket may hold bytes: read before asking epoll
  bool hung_up_ = false;    // the peer will send no more: read to the end
  bool blocked_ = false;    // the socket takes no more until EPOLLOUT
  bool epoll_out_ = false;  // EPOLLOUT is asked for
  bool announce_ = false;   // kConnected is still to be emitted
  bool full_ = false;       // the last step ended for want of room
  bool received_ = false;   // this step got bytes
  int send_error_ = 0;      // the socket refused to send; the peer's last words may explain
  std::uint64_t unacked_bytes_ = 0;  // applied here since an ack last left
  std::uint64_t last_pass_ = 0;
  TimeNs refuse_until_ns_ = 0;
  Status status_;  // why it ended

  TcpEndpoint* next_ready_ = nullptr;
  bool in_ready_list_ = false;
};

}  // namespace penstock::tcp
