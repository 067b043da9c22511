// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// MessageStream: the open messages between one worker and one server over one lane's connection,
// each exactly once and in order, also when the connection is lost and resumed.
//
// Up to kEagerBytes travel in frames as sends, and are copied once here and once there. A larger
// message is offered; the receiver grants memory (of its pool, or where its owner wants them), and
// the parts are written there from where they are, the last write with an immediate. A sender keeps
// a message until the peer has it; after a reconnection each side says which message it expects
// next, and the rest goes again.
//
// Thread: the lane's, except prepare().

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/protocol/open_message.h"
#include "engine/runtime/landing_pool.h"
#include "engine/runtime/region_cache.h"
#include "transport/api/device.h"

namespace penstock {

// Of the tags of posts on a lane's connection; slices never have it.
inline constexpr std::uint64_t kMessageTag = std::uint64_t{1} << 63;

// Whether a stream of the endpoint takes it, rather than the slices.
bool carries_message(const Completion& completion);

struct MessageFrame;

class MessageStream {
 public:
  static constexpr std::uint64_t kEagerBytes = std::uint64_t{16} << 10;
  // At most: as long as the device's messages may be. An eager message fits one of that size.
  static constexpr std::size_t kMaxFrameBytes = std::size_t{20} << 10;
  static constexpr std::size_t kFrames = 64;        // under way at once
  static constexpr std::size_t kMaxUnderWay = 64;   // messages begun and not at the peer
  static constexpr std::size_t kMaxArriving = 256;  // more at once breaks the protocol

  // An outgoing message with its parts registered, so that the lane need not.
  struct Prepared {
    OpenMessage message;
    std::vector<RegisteredBuffer> sources;  // of a large message
    std::uint64_t total = 0;                // bytes of all parts
  };
  // kInvalidArgument for too much meta or too many parts. Any thread.
  static Result<Prepared> prepare(RegionCache& regions, OpenMessage&& message);

  MessageStream(Device& device, RegionCache& regions, PeerScope scope, Rank peer,
                MessageReceiver& receiver);
  ~MessageStream();

  void send(Prepared&& prepared);

  // For the handshake of a (new) connection.
  std::uint64_t expects() const { return next_arrival_; }
  // The connection is up; the peer has every message before `peer_expects`. kProtocol when it
  // cannot.
  Status connected(Endpoint& endpoint, std::uint64_t peer_expects);
  void disconnected();

  // Posts what can be posted; returns how much.
  std::size_t pump();

  // One that carries_message(). Other than OK: the peer broke the protocol.
  Status on_completion(const Completion& completion);

 private:
  enum class Stage : std::uint8_t { kWaiting, kOffered, kGranted, kPosted };
  struct Outgoing {
    Prepared prepared;
    std::uint64_t sequence = 0;
    Stage stage = Stage::kWaiting;
    std::uint64_t cursor = 0;   // bytes in frames so far
    std::size_t next_part = 0;  // to be written
    std::uint32_t pending = 0;  // posts without completion
    std::vector<RemoteBuffer> granted;
    bool large() const { return prepared.total > kEagerBytes; }
  };
  struct Arriving {
    OpenMessage message;
    std::vector<std::uint64_t> sizes;
    std::uint64_t total = 0;
    std::uint64_t arrived = 0;  // bytes of an eager one
    bool large = false;
    bool whole = false;
    std::vector<RegisteredBuffer> places;  // of the receiver's own choice
    std::vector<LandingPool::Landing> landings;
  };

  Status open();
  bool can_post() const;
  bool begin_next();
  bool pump_message(Outgoing& out);
  bool post_first(Outgoing& out);
  bool post_more(Outgoing& out);
  bool post_writes(Outgoing& out);
  bool post_grants();
  std::byte* take_frame();
  bool post(const WorkRequest& work);
  bool post_frame(std::size_t length, std::uint32_t sequence_low);
  void finish_posted();
  Outgoing* find(std::uint32_t sequence_low);

  Status on_message(std::span<const std::byte> frame);
  Status on_landed(std::uint32_t sequence_low);
  void on_done(const Completion& completion);
  Status on_start(const MessageFrame& frame, std::span<const std::byte> rest);
  Status on_more(const MessageFrame& frame, std::span<const std::byte> bytes);
  Status on_grant(std::span<const std::byte> bytes);
  Status grant(std::uint64_t sequence, Arriving& arriving);
  Arriving* arriving(std::uint64_t sequence);
  void deliver();

  Device& device_;
  RegionCache& regions_;
  const PeerScope scope_;
  const Rank peer_;
  MessageReceiver& receiver_;
  const std::size_t frame_bytes_;
  Endpoint* endpoint_ = nullptr;

  std::unique_ptr<MemoryRegion> frames_;  // kFrames of frame_bytes_
  std::vector<std::uint32_t> free_frames_;
  std::deque<Prepared> waiting_;    // by priority, then in order
  std::deque<Outgoing> under_way_;  // by sequence
  std::uint64_t next_sequence_ = 0;

  std::shared_ptr<LandingPool> pool_;
  std::deque<Arriving> arriving_;  // the first is next_arrival_
  std::uint64_t next_arrival_ = 0;
  std::deque<std::vector<std::byte>> grants_;  // frames that wait for room
};

}  // namespace penstock
