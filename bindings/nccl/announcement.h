// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What travels on a connection besides the bytes NCCL sends. The receiver announces each buffer of
// a receive in a message of its own, in order; the sender writes into the buffer in pieces, each
// with an immediate, in any order; the receive is over when every buffer has all its pieces. So the
// bytes go once, from the buffer NCCL gave to the buffer NCCL gave, and nobody waits for a reply.
//
// A message, little endian, kBytes long:
//   0 version 1   1 slot 1   2 index 1   3 count 1   4 tag 4   8 size 8   16 offset 8   24 region
//
// An immediate:   slot 5 bits | index 3 bits | pieces of this send 24 bits
//
// slot: of the receive among those outstanding; index: of the buffer in it, of count.

#include <cstdint>
#include <span>

#include "bindings/nccl/abi.h"
#include "transport/api/types.h"

namespace penstock::nccl {

inline constexpr std::size_t kMaxReceives = 8;  // buffers of one receive, as NCCL's own IB has
// A write longer than the port takes at a time does not tell its length; every RDMA port takes 1
// MiB. Pieces of one send may go over several rails.
inline constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;
// Of one send: what test() can report as an int.
inline constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 30;

struct Announcement {
  static constexpr std::size_t kBytes = 128;
  std::uint8_t slot = 0;
  std::uint8_t index = 0;
  std::uint8_t count = 0;
  std::int32_t tag = 0;
  std::uint64_t size = 0;    // bytes; the buffer begins at
  std::uint64_t offset = 0;  // of
  RemoteRegion region;
};
void encode_announcement(const Announcement& announcement,
                         std::span<std::byte, Announcement::kBytes> bytes);
// kProtocol for what no receiver says: any length, any slot, index and count out of range, a buffer
// outside its region.
Result<Announcement> decode_announcement(std::span<const std::byte> message);

struct Arrival {
  std::uint32_t slot = 0;
  std::uint32_t index = 0;
  std::uint32_t pieces = 0;
};
inline constexpr std::uint32_t kPieceBits = 24, kIndexBits = 3;
static_assert(kMaxReceives == 1U << kIndexBits);
static_assert(kMaxRequests == 1U << (32 - kPieceBits - kIndexBits));
static_assert(kMaxBytes / kPieceBytes < 1U << kPieceBits);
constexpr std::uint32_t pack(const Arrival& a) {
  return a.slot << (kPieceBits + kIndexBits) | a.index << kPieceBits | a.pieces;
}
constexpr Arrival unpack(std::uint32_t immediate) {
  return {immediate >> (kPieceBits + kIndexBits),
          immediate >> kPieceBits & ((1U << kIndexBits) - 1), immediate & ((1U << kPieceBits) - 1)};
}
// A send of nothing is one piece of nothing.
constexpr std::uint32_t pieces_of(std::uint64_t bytes) {
  return bytes == 0 ? 1 : static_cast<std::uint32_t>((bytes + kPieceBytes - 1) / kPieceBytes);
}

}  // namespace penstock::nccl
