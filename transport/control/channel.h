// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One control connection inside the hub, from the first packet to the last:
//
//   kConnecting → kHandshaking → kOpen → kDraining
//
// A connection taken from a listener starts at kHandshaking. kDraining follows close(): all is
// sent, what still comes in is thrown away until the peer closes too. The channel moves bytes and
// keeps its registration with epoll; deadlines and events are the hub's.

#include <memory>
#include <string>
#include <vector>

#include "transport/api/control.h"
#include "transport/base/unique_fd.h"
#include "transport/control/address.h"
#include "transport/control/send_queue.h"
#include "transport/control/tls_stream.h"

namespace penstock::control {

// What the channels of one hub share. Outlives them.
struct ChannelContext {
  int epoll = -1;
  std::unique_ptr<TlsContext> tls;  // none: plain
  TimeNs user_timeout_ns = 0;
  std::size_t handshake_bytes = 0;

  std::unique_ptr<Stream> make_stream(int fd, Side side) const;
};

// Thread: one.
class Channel {
 public:
  enum class State { kConnecting, kHandshaking, kOpen, kDraining };

  // `serial` tells connections apart in epoll and in the hub; `peer` is text for messages.
  Channel(const ChannelContext& context, std::uint64_t serial, Side side, std::string peer)
      : context_(context), serial_(serial), side_(side), peer_(std::move(peer)) {}
  ~Channel() { disconnect(); }
  Channel(const Channel&) = delete;

  // The accepting side: takes the socket over.
  void adopt(UniqueFd fd);
  // The connecting side: tries one after the other. kLost when none is left.
  Io connect(std::vector<SocketAddress> candidates);

  // kConnecting and kHandshaking: goes on as the socket allows; kOk when the channel has just
  // become kOpen. `writable`: epoll said so (or said that the connect failed).
  Io establish(bool writable);

  // kOpen: writes what is queued; kOk when all of it is written.
  Io flush();
  // kOpen: reads some bytes.
  Io read(std::span<std::byte> to, std::size_t& moved);
  // kOpen → kDraining.
  void start_draining();
  // Throws away what has arrived. False once the peer has closed too.
  bool drain();
  // Tells epoll what the channel waits for now.
  void update_interest();
  // Closes the socket. Idempotent.
  void disconnect();

  State state() const { return state_; }
  std::uint64_t serial() const { return serial_; }
  Side side() const { return side_; }
  const std::string& peer() const { return peer_; }
  // Why the last call was kLost.
  const Status& error() const { return error_; }

  FrameParser parser;
  SendQueue queue;

  // The hub's notes.
  ChannelId id = 0;  // 0 until the owner may know the channel
  TimeNs deadline_ns = kNever;
  bool closing = false;    // the owner called close()
  bool scheduled = false;  // in the hub's list of channels to look at
  bool dirty = false;      // in the hub's list of channels to flush
  bool gone = false;       // dropped; about to be destroyed
  Status broken;           // why writing failed, until what has arrived is read

 private:
  Io connect_next(int last_error);
  Io lost(Status why);
  Status in_connect(const Status& why) const;
  std::uint32_t wanted_events() const;

  const ChannelContext& context_;
  const std::uint64_t serial_;
  const Side side_;
  const std::string peer_;
  State state_ = State::kConnecting;
  UniqueFd fd_;
  std::unique_ptr<Stream> stream_;
  std::vector<SocketAddress> candidates_;  // still to be tried, last first
  std::uint32_t registered_events_ = 0;
  bool registered_ = false;
  Status error_;
};

}  // namespace penstock::control
