// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Open messages: what a worker and a server say to each other beside declared tensors. A small
// description of the sender's (`meta`) and up to kMaxMessageParts arrays of any length.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/protocol/types.h"

namespace penstock {

inline constexpr std::size_t kMaxMessageMeta = 1024;  // bytes
inline constexpr std::size_t kMaxMessageParts = 4;
inline constexpr std::uint64_t kMaxMessageTotal = std::uint64_t{1} << 40;  // bytes of all parts

// Bytes that somebody keeps: `owner` does, or, where it is null, the caller until the message is
// at the peer.
struct MessagePart {
  std::span<std::byte> bytes;
  std::shared_ptr<const void> owner;
};

struct OpenMessage {
  std::vector<std::byte> meta;
  std::vector<MessagePart> parts;
  std::int32_t priority = 0;  // higher leaves first among those that wait; ties in order
};

// Who receives open messages. Called on the thread of the lane that carries them: be quick, hand
// over. Messages of one peer on one channel come in the order in which they left there.
class MessageReceiver {
 public:
  virtual ~MessageReceiver() = default;

  virtual void on_open_message(Rank from, OpenMessage&& message) = 0;

  // Where the parts of a large message are to land: fill in parts whose bytes must go to memory of
  // yours (of exactly that length, and it must live until the message came or the peer is lost);
  // the others get memory of their own. `sizes` are the parts' lengths.
  virtual void place_open_message(Rank from, std::span<const std::byte> meta,
                                  std::span<const std::uint64_t> sizes,
                                  std::span<MessagePart> parts) {
    (void)from, (void)meta, (void)sizes, (void)parts;
  }
};

}  // namespace penstock
