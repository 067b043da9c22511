// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// One connected, nonblocking socket seen as a stream of bytes between peers that have checked each
// other. Two kinds: tls_stream.h, and plain_stream.h for `insecure` hubs.

#include <cstddef>
#include <span>

#include "transport/base/status.h"

namespace penstock::control {

enum class Side { kConnecting, kAccepting };

// What one call on a stream did. Not kOk: no bytes moved.
enum class Io {
  kOk,
  kBlocked,  // try again when the socket is ready
  kLost      // over; error() says why
};

// Thread: one. The descriptor is the owner's and outlives the stream.
class Stream {
 public:
  virtual ~Stream() = default;

  // Goes on until the peer has proved that it belongs to the job (kOk).
  virtual Io handshake() = 0;

  // After the handshake: moves some bytes, their number in `moved`.
  virtual Io read(std::span<std::byte> to, std::size_t& moved) = 0;
  virtual Io write(std::span<const std::byte> from, std::size_t& moved) = 0;

  // The last kBlocked of handshake() or read() waits for room to write.
  virtual bool wants_write() const = 0;

  // Tells the peer, if the socket has room, that no more bytes follow.
  virtual void finish() = 0;

  // Why the last call was kLost.
  const Status& error() const { return error_; }

 protected:
  Io lost(Status why) {
    error_ = std::move(why);
    return Io::kLost;
  }

 private:
  Status error_;
};

}  // namespace penstock::control
