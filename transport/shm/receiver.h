// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The peer's ring, read: immediates and messages to the sink, pieces of writes into our regions,
// answers to its reads into our segment. Thread: the endpoint's.

#include <cstdint>
#include <memory>

#include "transport/parts/event_sink.h"
#include "transport/shm/peer.h"
#include "transport/shm/region_table.h"

namespace penstock::shm {

using parts::EventSink;

class Receiver {
 public:
  Receiver(const RegionTable& regions, PeerScope scope, std::uint32_t endpoint);

  struct Fault {  // the peer's
    Code code = Code::kOk;
    const char* what = nullptr;
  };
  // Takes entries in until none is left, there is no room, or it is others' turn.
  Fault receive(const Peer& peer, const Segment& own, EventSink& sink);
  // The messages handed out by the last poll are no longer needed.
  void release_messages() { messages_used_ = 0; }

  // Nothing published from here on is taken in: the peer is leaving.
  void set_last(std::uint64_t published) { last_ = published; }
  bool finished() const { return consumed_ >= last_; }
  bool behind(const Peer& peer) const {
    return !finished() &&
           peer.segment.words().published.load(std::memory_order_seq_cst) != consumed_;
  }
  std::uint64_t consumed() const { return consumed_; }
  std::uint64_t copied_bytes() const { return copied_bytes_; }    // twice
  std::uint64_t fetched_bytes() const { return fetched_bytes_; }  // by the kernel

 private:
  enum class Step : std::uint8_t { kTaken, kNoRoom, kFault };
  Step take(const Entry& entry, const Peer& peer, const Segment& own, EventSink& sink);
  Step take_message(const Entry& entry, const Peer& peer, EventSink& sink);
  Step fetch(const Entry& entry, const Peer& peer, std::span<std::byte> to);
  Step copy(const Entry& entry, const Peer& peer, const Segment& own);
  Step fail(Code code, const char* what) {
    fault_ = {code, what};
    return Step::kFault;
  }

  const RegionTable& regions_;
  const PeerScope scope_;
  const std::uint32_t endpoint_;
  const std::unique_ptr<std::byte[]> messages_;  // copies: the peer could change what it sent
  std::size_t messages_used_ = 0;
  std::uint64_t consumed_ = 0;
  std::uint64_t last_ = UINT64_MAX;
  std::uint64_t copied_bytes_ = 0;
  std::uint64_t fetched_bytes_ = 0;
  Fault fault_;
};

}  // namespace penstock::shm
