// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Control connections: one reliable, ordered, authenticated stream of frames between two processes
// that talk. A frame is opaque bytes here; engine/protocol says what they mean.
// Implementations: transport/control (TLS 1.3 over TCP), transport/loopback (in process, with
// faults).

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "transport/base/clock.h"
#include "transport/base/status.h"

namespace penstock {

using ChannelId = std::uint32_t;  // local; never reused within one hub

// Largest frame. A declaration batch of 10,000 keys or the resume list of a lane fits.
inline constexpr std::size_t kMaxControlFrameBytes = std::size_t{16} << 20;
// Bytes queued on one channel before send() refuses; a peer that does not read cannot make us grow.
inline constexpr std::size_t kMaxControlQueueBytes = std::size_t{64} << 20;

// Called from poll(), on its thread. May call send(), connect() and close(), also on the channel
// the event is about.
class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  virtual void on_accepted(ChannelId channel,
                           const std::string& peer_address) = 0;  // authenticated
  virtual void on_connected(ChannelId channel) = 0;               // authenticated
  virtual void on_frame(ChannelId channel,
                        std::span<const std::byte> frame) = 0;  // valid in the call
  // Exactly once for every channel that connect() returned or on_accepted() named, unless close()
  // was called on it; the last event of the channel.
  virtual void on_closed(ChannelId channel, const Status& reason) = 0;
};

// All control connections of one process. Thread: one, except wake().
class ControlHub {
 public:
  virtual ~ControlHub() = default;

  // Starts accepting; "host:port", port 0 picks one. Returns the address peers can use.
  virtual Result<std::string> listen(const std::string& address) = 0;

  // Returns at once; on_connected or on_closed follows by the deadline.
  virtual Result<ChannelId> connect(const std::string& address, TimeNs deadline_ns) = 0;

  // Queues a frame (copied). kExhausted past kMaxControlQueueBytes, kNotFound if the channel is
  // gone.
  virtual Status send(ChannelId channel, std::span<const std::byte> frame) = 0;

  // Sends what is queued if the peer reads it within a second, then closes. No event follows.
  virtual void close(ChannelId channel) = 0;

  // Makes progress and delivers events. Returns how many; never blocks.
  virtual std::size_t poll(ControlHandler& handler) = 0;

  // Readable when poll() may have something to do; −1 where there is no descriptor (simulation).
  virtual int fd() const = 0;

  // The next time at which poll() must run even if fd() stays silent; kNever if none.
  virtual TimeNs next_deadline_ns() const = 0;
};

}  // namespace penstock
