// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// How frames are told apart in the byte stream of a control connection, with or without TLS:
//
//   0        4        6        8
//   +--------+--------+--------+----------------
//   | length | magic  | flags  | length bytes …
//   +--------+--------+--------+----------------
//   little-endian; magic: 'P' (0x50) in the high byte, the version in the low one; flags: 0
//
// The parser takes hostile bytes: it reads no clock and no socket, and never holds more than twice
// the bytes that really arrived, whatever length a header claims.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transport/base/status.h"

namespace penstock::control {

inline constexpr std::uint8_t kFrameVersion = 1;
inline constexpr std::uint16_t kFrameMagic = 0x5000 | kFrameVersion;
inline constexpr std::size_t kFrameHeaderBytes = 8;

// The first bytes each side sends where there is no TLS: an empty frame with this flag. It tells a
// peer that wants no secret from one that does, and from a stranger.
inline constexpr std::uint16_t kHelloFlags = 0x4850;

using FrameHeader = std::array<std::byte, kFrameHeaderBytes>;

// length ≤ kMaxControlFrameBytes is the caller's to check.
FrameHeader encode_frame_header(std::size_t length, std::uint16_t flags = 0);

// Cuts one stream into frames. Thread: one.
class FrameParser {
 public:
  // Takes bytes from the front of `input`, at most up to the end of one frame. True: `frame` is
  // that frame, valid until the next call and while the memory of `input` is. False: more bytes are
  // needed and `input` is empty. kProtocol: no correct peer sends this; every later call says the
  // same. A frame that lies whole in `input` is not copied.
  Result<bool> next(std::span<const std::byte>& input, std::span<const std::byte>& frame);

  // True between frames: the stream may end here.
  bool at_boundary() const { return header_bytes_ == 0; }

  // Memory held for a frame that is not whole yet.
  std::size_t buffered_capacity() const { return body_.capacity(); }

 private:
  bool take_header(std::span<const std::byte>& input);
  Status check_header();
  void append_body(std::span<const std::byte>& input);
  void start_frame();

  FrameHeader header_{};
  std::size_t header_bytes_ = 0;  // of header_ that arrived; 8 while the body is on its way
  std::size_t length_ = 0;        // of the body
  std::vector<std::byte> body_;   // what arrived of a body that came in pieces
  bool body_delivered_ = false;   // body_ was handed out by the last call
  Status error_;
};

}  // namespace penstock::control
