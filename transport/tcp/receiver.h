// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The receiving half of one connection without its socket: bytes in, checked frames out. Payload
// goes straight to its destination; only what a read caught beyond the current frame passes through
// the staging buffer. The endpoint drives it with readv(), the fuzzer with arbitrary bytes.
//
//   for (;;) switch (const Arrival arrival = receiver.next(); arrival.kind) {
//     case kNeedBytes: n = readv(fd, space, receiver.prepare(space, limit)); receiver.commit(n);
//     case kFrame:     act on arrival.header; its payload is in place
//     case kRefused, kGarbage: the connection is over
//   }
// Thread: the endpoint's. No allocation after construction.

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "transport/parts/region_table.h"
#include "transport/tcp/frame.h"

namespace penstock::tcp {

using parts::RegionTable;

struct Arrival {
  enum class Kind : std::uint8_t {
    kNeedBytes,
    kFrame,        // `header`; for a send also `message`, valid until release_messages()
    kMessageRoom,  // the next frame is a message and there is no room: release_messages() first
    kRefused,      // a well-formed frame that may not do what it asks: `code` and `what`, answer it
    kGarbage,      // bytes no correct peer sends: kProtocol, `what`
  };
  Kind kind = Kind::kNeedBytes;
  Code code = Code::kOk;
  const char* what = nullptr;
  FrameHeader header{};
  std::span<const std::byte> message{};
};

class Receiver {
 public:
  // A connector's receiver takes a welcome (or an error) first; an acceptor's never takes one.
  enum class Side : std::uint8_t { kConnector, kAcceptor };
  Receiver(const RegionTable& regions, PeerScope scope, Side side);

  // The next complete frame, or why there is none.
  Arrival next();

  // Where the next bytes of the stream belong, at most `limit` of them: fills `space` and returns
  // how many entries, 0 when next() has something to say first. Holds the target region until
  // commit(), which must follow at once.
  int prepare(iovec (&space)[2], std::size_t limit);
  // `bytes` of the stream were put where prepare() said.
  void commit(std::size_t bytes);

  // The oldest read whose response is awaited; its response lands in `target`. Set again after
  // each kReadResponse frame.
  void expect_read(std::uint64_t sequence, std::span<std::byte> target);

  // Messages handed out so far are dead; their room is free.
  void release_messages();

  std::uint64_t applied() const { return applied_; }  // last counted frame in place
  std::uint64_t acked() const { return acked_; }  // largest ack in a header that was well formed
  bool inside_frame() const { return in_payload_ || staged() > 0; }
  // Payload bytes of the current frame still to come.
  std::uint64_t payload_left() const { return payload_left_; }

 private:
  std::size_t staged() const { return staged_end_ - staged_begin_; }
  void read_header();
  const char* check_order(const FrameHeader& header) const;
  void open_frame();
  void open_write();
  void open_read_response();
  void open_message();
  void take_staged_payload();
  bool hold_target();
  Arrival finish_frame();
  void fail(Arrival::Kind kind, Code code, const char* what);
  bool failed() const { return failure_.kind != Arrival::Kind::kNeedBytes; }

  const RegionTable& regions_;
  const PeerScope scope_;
  const std::unique_ptr<std::byte[]> staging_;
  std::size_t staged_begin_ = 0, staged_end_ = 0;
  const std::unique_ptr<std::byte[]> messages_;
  std::size_t messages_end_ = 0;

  FrameHeader header_{};  // the current frame while in_payload_
  bool in_payload_ = false;
  std::byte* target_ = nullptr;  // next payload byte
  std::uint64_t payload_left_ = 0;
  std::uint64_t last_payload_ = 0;  // of the frame before: how far to read ahead
  RegionTable::Guard guard_;        // between prepare() and commit()

  std::uint64_t applied_ = 0, acked_ = 0;
  std::uint64_t read_sequence_ = 0;  // 0: none awaited
  std::span<std::byte> read_target_;
  bool awaits_welcome_;
  Arrival failure_;  // sticky
};

}  // namespace penstock::tcp
