// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transport/control/frame.h"
#include "transport/control/stream.h"

namespace penstock::control {

// Bytes as they are. The handshake is a hello in each direction (frame.h), which keeps strangers
// and hubs with a secret out by accident, not by force.
class PlainStream final : public Stream {
 public:
  explicit PlainStream(int fd) : fd_(fd), hello_(encode_frame_header(0, kHelloFlags)) {}

  Io handshake() override;
  Io read(std::span<std::byte> to, std::size_t& moved) override;
  Io write(std::span<const std::byte> from, std::size_t& moved) override;
  bool wants_write() const override { return sent_ < kFrameHeaderBytes; }
  void finish() override {}

 private:
  const int fd_;
  const FrameHeader hello_;
  std::size_t sent_ = 0, received_ = 0;  // of the hello
};

}  // namespace penstock::control
